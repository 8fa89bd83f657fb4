"""Label forensics: what a data set says about itself."""
