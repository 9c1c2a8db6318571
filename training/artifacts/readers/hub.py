"""Rows of a data set on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.readers.values import check_texts
from training.artifacts.skips import Skip


def open_dataset(repository: str, configuration: str | None) -> Mapping[str, Any]:
    """The splits of a data set by name, downloaded once and then read from `datasets`' cache.

    Raises:
        UserError: the hub does not give it, or it has several configurations and none was named.
    """
    import datasets

    try:
        _ask_hub(repository)
        splits: Mapping[str, Any] = datasets.load_dataset(repository, configuration)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"{repository} could not be read from the Hugging Face hub ({type(error).__name__}): "
            "give a local file or folder, or try again"
        ) from None
    except ValueError as error:  # a configuration that is missing or unknown
        names = [name for name in _configurations(repository) if name not in ("default", configuration)]
        offers = ", ".join(f"{repository}:{name}" for name in names) or f"{repository}:CONFIGURATION"
        raise UserError(f"{' '.join(str(error).split())}: use one of {offers}") from None
    except RuntimeError as error:  # a data set that is made by a script of its own
        raise UserError(f"{repository} cannot be read ({' '.join(str(error).split())}): give a local file") from None
    return splits


def dataset_rows(dataset: Any) -> Iterator[Mapping[str, Any] | Skip]:
    """Rows of one split."""
    for row in dataset:
        try:
            check_texts(row)
        except Skip as skip:
            yield skip
        else:
            yield row


def _configurations(repository: str) -> list[str]:
    import datasets

    try:
        return [str(name) for name in datasets.get_dataset_config_names(repository)]
    except Exception:  # only to offer names; the first error is shown without them
        return []


def _ask_hub(repository: str) -> None:
    """Raise `UserError` at once if the hub does not give this data set; `datasets` retries for half a minute."""
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:  # then `datasets` reads its cache
        return
    try:
        huggingface_hub.HfApi().dataset_info(repository, timeout=10)
    except Exception as error:  # its transport library, and so the errors, differ between versions
        raise UserError(
            f"{repository} is not a local path, and the Hugging Face hub did not give it ({type(error).__name__}): "
            "give a local file, or check the id, the network and HF_TOKEN"
        ) from None
