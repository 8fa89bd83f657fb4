"""What a user looks up, read from the source of the package: errors and keys of recipes.  Imports no other part."""
