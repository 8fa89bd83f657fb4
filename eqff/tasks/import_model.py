"""Weights of another code -> a potential file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from eqff import config as config_io
from eqff import registry
from eqff.artifact.header import PROVENANCE
from eqff.errors import ConfigError, PotentialError
from eqff.exporter import export, only_exporter
from eqff.importers._contract import Imported, Importer, Located, Provenance
from eqff.importers._source import Source, read


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What to import, and what its author says about it."""

    code: str  # an importer, see `codes`
    source: str | Path
    output: str | Path
    config: str | Path | None = None  # JSON or TOML, where the source has none
    modality: str = ""  # level of theory to keep, where the weights hold several
    species: tuple[str, ...] = ()  # elements of the foreign types in their order; or, of all elements, those to keep
    card: str = ""
    metadata: dict[str, str] = field(default_factory=dict)  # level_of_theory, licence, citation
    force: bool = False


class ImportReport(NamedTuple):
    """The result of an import."""

    path: Path
    family: str
    config: dict[str, Any]
    n_parameters: int
    header: dict[str, Any]
    guessed_species: bool  # no source states the elements of the foreign types


def codes() -> list[str]:
    """Names of all codes whose weights can be imported."""
    return registry.names("importers")


def import_model(config: ImportConfig) -> ImportReport:
    """Read a foreign model, turn it into a model of eqff, and store it.

    As in every export, the potential file is verified in a fresh process before it gets its name.

    Raises: ConfigError for an unknown code, or an option of the foreign model that has no counterpart;
            PotentialError for a source that cannot be read or is not fully understood, or an output that exists
    """
    if config.code not in codes():
        raise ConfigError("EQ1190", f"code={config.code!r} has no importer; choose from {', '.join(codes())}")
    importer = cast(Importer, registry.load("importers", config.code))
    unknown = sorted(config.metadata.keys() - set(PROVENANCE))
    if unknown:
        raise ConfigError("EQ1192", f"metadata: unknown {unknown}; choose from {', '.join(PROVENANCE)}")
    with only_exporter(config.output, config.force) as path:
        return _import(config, importer, path)


def _import(config: ImportConfig, importer: Importer, path: Path) -> ImportReport:
    located = _locate(importer, str(config.source))
    source = read(config.source, config.config, None if located is None else located.content)
    foreign = dict(source.config)
    if located is not None:
        if source.sha256 != located.sha256:
            raise PotentialError(
                "EQ4877",
                f"{located.label}: SHA-256 {source.sha256}, expected {located.sha256}; "
                "give the path of the checkpoint if this is the file that you mean",
            )
        foreign |= located.options
    _choose_modality(importer, foreign, config)
    if config.code in source.versions:
        foreign.setdefault(f"{config.code}_version", source.versions[config.code])
    guessed = _name_species(importer, foreign, config, source)
    imported = _convert(importer, foreign, source)
    plain = config_io.to_mapping(imported.config)
    label = source.path.name if located is None else located.label
    origin: dict[str, Any] = {"imported_from": config.code, "source": label, "source_sha256": source.sha256}
    origin |= {"source_versions": source.versions}
    published: Provenance | None = getattr(importer, "provenance", lambda *_: None)(foreign, source.sha256)
    stated = {field: text for field, text in config.metadata.items() if text != "not stated"}
    if published is not None:
        origin, stated = origin | {"data": published.training_data}, published.metadata | stated
    header = export(
        imported.model,
        importer.FAMILY,
        plain,
        path,
        metadata={"training_data": origin, **stated},
        card=config.card or ("" if published is None else published.card),
        run_dtype=getattr(importer, "RUN_DTYPE", ""),
        force=config.force,
    )
    n_parameters = sum(parameter.numel() for parameter in imported.model.parameters())
    return ImportReport(path, importer.FAMILY, plain, n_parameters, header, guessed)


def _locate(importer: Importer, source: str) -> Located | None:
    """A file inside a package, where the importer knows some."""
    found: Located | None = getattr(importer, "locate", lambda _: None)(source)
    return found


def _choose_modality(importer: Importer, foreign: dict[str, Any], config: ImportConfig) -> None:
    """Put the modality, if stated, into the foreign configuration."""
    if not config.modality:
        return
    key = getattr(importer, "MODALITY_KEY", "")
    if not key:
        raise ConfigError("EQ1768", f"modality={config.modality!r}: weights of {config.code} have none; leave it out")
    if foreign.setdefault(key, config.modality) != config.modality:
        raise ConfigError(
            "EQ1769", f"modality={config.modality!r}, but SOURCE says {foreign[key]!r}; name one level of theory"
        )


def _name_species(importer: Importer, foreign: dict[str, Any], config: ImportConfig, source: Source) -> bool:
    """Put names of elements, if stated, into the foreign configuration.  Returns: whether the importer must guess"""
    keys: tuple[str, ...] = getattr(importer, "SPECIES_KEYS", ())
    if not keys:
        subset = getattr(importer, "SUBSET_KEY", "")
        if config.species and not subset:
            reason = (
                f"species={list(config.species)}: weights of {config.code} are for fixed elements; leave species out"
            )
            raise ConfigError("EQ1099", reason)
        if config.species:
            foreign[subset] = list(config.species)
        return False
    named = any(foreign.get(key) for key in keys)
    if config.species or (source.species and not named):
        foreign[keys[0]] = list(config.species or source.species)
    return not foreign.get(keys[0]) and not named


def _convert(importer: Importer, foreign: dict[str, Any], source: Source) -> Imported:
    """The importer's model; an invalid configuration becomes a typed error."""
    try:
        return importer.convert(foreign, source.state)
    except KeyError as error:
        raise ConfigError("EQ1191", f"{source.path}: its configuration lacks {error}; give all of it") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            "EQ1196",
            f"{source.path}: its configuration has a wrong value ({error}); correct the value in the configuration",
        ) from error
