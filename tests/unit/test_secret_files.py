"""Secrets in files: what is taken, and what is refused with the file's name and the remedy."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus.config import Settings, SettingsError, load_settings
from nexus.secret_files import MAX_SIZE, SecretFileError, read_secret
from tests.unit.test_config import GOOD
from tests.unit.test_config import environment as environment  # noqa: PLC0414  a fixture that is used here too

SECRETS = sorted(name.removesuffix("_FILE") for name in Settings.model_fields if name.endswith("_FILE"))


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        file = tmp_path / "secret"
        file.write_bytes(content)
        file.chmod(0o440)
        return file

    return write


def refused(file: Path) -> str:
    with pytest.raises(SecretFileError) as caught:
        read_secret(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_line_end_of_an_editor_is_no_part_of_it(secret: Callable[[bytes], Path], end: bytes) -> None:
    assert read_secret(secret("p@ss wörd$ ".encode() + end)) == "p@ss wörd$ "


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: write the secret into it"),
        (b" \n", "is empty: write the secret into it"),
        (b"one\r\n", "ends its line as Windows does: sed -i 's/\\r$//' "),
        (b"one\ntwo\n", "holds more than one line"),
        (b"a\0b", "holds more than one line"),
        (b"\xff\xfe", "holds no text"),
        (b"x" * (MAX_SIZE + 1), f"is longer than {MAX_SIZE} bytes"),
    ],
)
def test_what_is_no_secret_is_refused(secret: Callable[[bytes], Path], content: bytes, said: str) -> None:
    assert said in refused(secret(content))


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    assert "is not there: write the secret into it" in refused(tmp_path / "absent")


def test_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    assert "is no file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o440)
    assert "is no file" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("mode", [0o444, 0o442, 0o441, 0o644])
def test_a_file_that_is_open_to_every_user_is_refused(secret: Callable[[bytes], Path], mode: int) -> None:
    file = secret(b"text")
    file.chmod(mode)
    assert f"is open to every user (mode {mode:03o}): chmod 440 it" in refused(file)


def test_every_secret_setting_has_a_file_beside_it() -> None:
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert set(SECRETS) == secret


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_comes_from_its_file(
    name: str, secret: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = GOOD.get(name, "a password")
    monkeypatch.setenv(name, "")
    monkeypatch.setenv(f"{name}_FILE", str(secret(f"{value}\n".encode())))
    assert getattr(load_settings(), name).get_secret_value() == value


def faults() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return caught.value.faults


def test_a_secret_that_is_given_twice_is_refused(
    secret: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_INTERNAL_SECRET_FILE", str(secret(b"another")))
    name = "NEXUS_INTERNAL_SECRET"
    assert faults() == [f"{name}: is given twice: empty either {name} or {name}_FILE"]


def test_every_wrong_file_has_a_line_beside_the_other_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NEXUS_INTERNAL_SECRET", "REDIS_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    named = sorted(line.split(":")[0] for line in faults())
    assert named == ["LOG_LEVEL", "NEXUS_INTERNAL_SECRET", "REDIS_URL"]


def test_what_a_file_holds_is_judged_like_a_variable(
    secret: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setenv("REDIS_URL_FILE", str(secret(b"amqp://hunter2@h")))
    (line,) = faults()
    assert line == "REDIS_URL: must look like redis://host:6379/0"


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/8", "10.0.0.0/8 10.1.1.1", "*"])
def test_a_proxy_is_an_address_or_a_network(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", value)
    (line,) = faults()
    assert line.startswith("TRUSTED_PROXIES: must be addresses or networks with commas between them")


def test_proxies_stand_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.1, 172.16.0.0/12,fd00::/8")
    assert load_settings().trusted_proxies == ["10.0.0.1", "172.16.0.0/12", "fd00::/8"]
