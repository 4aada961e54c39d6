import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Barrier

import boto3
import pytest

from recourse.local import aws, private


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_its_owners_alone_whether_it_is_made_or_found(tmp_path: Path) -> None:
    made, found = tmp_path / "made" / "deep", tmp_path / "found"
    found.mkdir(mode=0o755)
    for folder in (made, found):
        private.make_folder(folder)
        assert rights(folder) == 0o700


def test_what_is_made_once_is_the_same_for_all_who_begin_together(tmp_path: Path) -> None:
    file, numbers, together = tmp_path / "folder" / "secret", count(), Barrier(8)

    def make() -> bytes:
        together.wait(10)
        return str(next(numbers)).encode()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: private.made_once(file, make), range(8)))
    assert found == {file.read_bytes()}
    assert next(numbers) == 8
    assert (rights(file), rights(file.parent)) == (0o600, 0o700)
    assert [path.name for path in file.parent.iterdir()] == ["secret"]


def test_the_secret_of_root_is_random_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = []
    for name in ("one", "two"):
        monkeypatch.setattr(aws, "folder", lambda name=name: tmp_path / name)
        secrets += [aws.root_secret(), aws.root_secret()]
    assert secrets[0] == secrets[1] != secrets[2] == secrets[3]
    assert len(secrets[0]) == 40


@pytest.mark.parametrize("names", [["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"], []])
def test_awss_own_tools_find_the_local_cloud_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    file, users_own = tmp_path / "aws.config", tmp_path / "credentials"
    aws.write_config(file, "http://127.0.0.1:1")
    assert rights(file) == 0o600
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    # Where the user has keys of an account, both names are needed, else one is enough.
    if names:
        users_own.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(users_own))
    for name in names or ["AWS_CONFIG_FILE"]:
        monkeypatch.setenv(name, str(file))
    session = boto3.Session()
    sqs, keys = session.client("sqs"), session.get_credentials()
    assert keys
    assert (keys.access_key, keys.secret_key) == (aws.KEY_ID, aws.root_secret())
    assert (sqs.meta.endpoint_url, sqs.meta.region_name) == ("http://127.0.0.1:1", aws.REGION)
