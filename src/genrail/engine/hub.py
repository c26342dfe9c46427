"""Push what an engine's language model was taught to a hub of models, by name."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from genrail.errors import ApiError, MissingPackageError, SettingsError

if TYPE_CHECKING:
    from genrail.finding import Finder

__all__ = ["push"]

ROOMS = ("adapter", "checkpoint", "model")  # of weights within a saved finder


def push(finder: Finder, repo_id: str, private: bool, token: str | None, message: str) -> str:
    """Upload the weights that were taught, with their card; see `LiveEdition.push_to_hub`."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingPackageError("huggingface_hub", "torch", "Pushing to a hub") from error

    from genrail.finders.generative import generative_part

    part = generative_part(finder)
    if part is None or getattr(part.spelling, "card", None) is None:
        raise SettingsError(
            "no language model of this engine was taught here, so there is nothing to push; train it first"
        )
    with TemporaryDirectory() as made:
        part.spelling.save(Path(made))
        folder = next(Path(made) / room for room in ROOMS if (Path(made) / room).is_dir())
        api = huggingface_hub.HfApi(token=token)
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True, repo_type="model")
            api.upload_folder(repo_id=repo_id, folder_path=folder, repo_type="model", commit_message=message)
        except Exception as error:  # whatever its client raises: network, login, a name that is not allowed
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise ApiError(
                f"{repo_id} could not be pushed ({said}); check the name, the network, and your login to the hub"
            ) from error
    return str(url)
