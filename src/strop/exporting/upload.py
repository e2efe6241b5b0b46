"""Uploads a certified export to a hub, when asked to and never otherwise."""

from pathlib import Path

from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.core.system.hub import hub_problem
from strop.exporting.certify.certified import obstacle


def push(folder: str | Path, repo: str, *, public: bool = False) -> str:
    """Upload an exported folder, with its certificate, and return the address of the commit.

    Only what is certified, and unchanged since, is uploaded. The repository is made where there
    is none, for yourself alone unless `public`; one that is there stays as visible as it is.

    Args:
        folder: of one export, such as `runs/tone/export/merged`.
        repo: USER/NAME on the hub.
        public: whether everybody may see a repository that is made.

    Raises:
        DataError: the folder has no certificate, one that failed, or files changed since.
        ConfigError: no token is at hand, or the hub refuses the name.
        UnsupportedError: the hub cannot be reached or refuses the upload.
    """
    folder = Path(folder)
    _check(folder)
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if problem := hub_problem():
        raise UnsupportedError(f"the hub at {constants.ENDPOINT} {problem}")
    if get_token() is None:
        raise ConfigError(
            f"pushing to {constants.ENDPOINT} needs a token that may write; run: hf auth login, or "
            "set HF_TOKEN"
        )
    hub = HfApi()
    try:
        hub.create_repo(repo, private=not public, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=f"Upload {folder.name} by strop"
        )
    except HFValidationError as e:
        raise ConfigError(f"{repo} is no name on a hub, which is USER/NAME: {e}") from e
    except HfHubHTTPError as e:
        raise UnsupportedError(f"{constants.ENDPOINT} does not take {folder}: {e}") from e
    return str(done.commit_url)


def _check(folder: Path) -> None:
    if (why := obstacle(folder)) is not None:
        raise DataError(
            f"{folder} is not pushed: {why}; give one of the folders that strop export names as "
            "certified"
        )
