"""The scripts on the board against hostile and clumsy use: real scripts, with a fake Python environment and systemd."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeseg.deploy.bundle import SCRIPTS, SUMS, list_sums, read_public_key, sign_archive
from tests.boards import FAKES, FakeBoard, list_light, make_key, pack_light, unpack, write_program


@pytest.fixture
def board(tmp_path: Path) -> FakeBoard:
    """Give a board on which nothing is installed yet."""
    board = FakeBoard(tmp_path / "board")
    (board.root / "bin").mkdir(parents=True)
    for name in ("systemctl", "id"):
        write_program(board.root / "bin" / name, (FAKES / f"{name}.sh").read_text(encoding="utf-8"))
    return board


@pytest.fixture
def used(board: FakeBoard, tmp_path: Path) -> FakeBoard:
    """Give a board with the model "first" in use."""
    code, said = board.install(unpack(pack_light("first"), tmp_path / "first"), {"HOOK": ""})
    assert code == 0, said
    return board


def list_all(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def upgrade(board: FakeBoard, archive: bytes, *options: str, hook: str = "", **more: str) -> tuple[int, str]:
    """Bring an archive to the board and let its board.sh install it."""
    path, script = board.root / "board.tar.gz", board.root / "hook"
    path.write_bytes(archive)
    script.write_text(hook, encoding="utf-8")
    return board.manage("upgrade", *options, path, extra={"HOOK": str(script), **more})


def prefix_of_others(root: Path) -> Path:
    folder = root / "shared"
    for name in ("releases/my-precious/a", "environments/prod/bin/a", "incoming.photos/a", "current.new/a"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "name",
    ["", ".", "relative", "/", "HOME", "HOME/", "HOME/new/..", "HOME/a b", "HOME/a\nb", "OTHERS", "LINK", "FILE"],
)
def test_prefixes_that_are_refused(board: FakeBoard, tmp_path: Path, name: str) -> None:
    others = prefix_of_others(board.root)
    (board.root / "link").symlink_to(others)
    (board.root / "file").touch()
    names = {"HOME": board.root, "OTHERS": others, "LINK": board.root / "link", "FILE": board.root / "file"}
    for key, path in names.items():
        name = name.replace(key, str(path))
    before = list_all(board.root)
    folder = unpack(pack_light("first"), tmp_path / "first")
    code, said = board.run("sh", folder / "install.sh", "--prefix", name, extra={"HOOK": ""})
    assert (code, "edgeseg: Expected" in said) == (1, True), said
    assert list_all(board.root) == before


@pytest.mark.parametrize("way", ["link", "new/../real", "real/", "real//."])
def test_a_prefix_by_another_name_is_the_same_prefix(board: FakeBoard, tmp_path: Path, way: str) -> None:
    (board.root / "link").symlink_to(board.root / "real")
    for name, environment in (("first", "a"), ("second", "b"), ("third", "c")):
        folder = unpack(pack_light(name, environment=environment), tmp_path / name)
        code, said = board.run("sh", folder / "install.sh", "--prefix", f"{board.root}/{way}", extra={"HOOK": ""})
        assert (code, "In use: " in said) == (0, True), said
        assert (board.root / "real/current/venv/bin/edgeseg").is_file()
    assert sorted(path.name for path in (board.root / "real/environments").iterdir()) == ["0" * 11 + x for x in "bc"]
    assert not (board.root / "new").exists()


def test_what_others_put_below_the_prefix_stays(used: FakeBoard) -> None:
    names = ["releases/my-precious/a", "environments/prod/bin/a", "incoming.photos/a", "notes.new", "thesis.txt"]
    for name in names:
        (used.prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (used.prefix / name).touch()
    (used.prefix / "releases/current/x").parent.mkdir()
    (used.prefix / "releases/link-0123456789ab").symlink_to(used.prefix / "releases/current")
    mixed = next((used.prefix / "releases").glob("first-*")) / "thesis.txt"
    mixed.touch()
    for name in ("second", "third", "fourth"):
        code, said = upgrade(used, pack_light(name))
        assert code == 0, said
    assert all(name in said for name in ("my-precious", "prod", mixed.parent.name)), said
    assert not list((used.prefix / "releases").glob("second-*"))
    code, said = used.manage("uninstall")
    assert (code, str(used.prefix) in said) == (0, True), said
    assert all((used.prefix / name).exists() for name in names)
    assert mixed.exists()
    assert not (used.prefix / "board.sh").exists()


def test_a_release_of_that_name_that_others_made_is_refused(used: FakeBoard) -> None:
    other = used.prefix / "releases" / f"second-{b'second'.hex():0>12.12}"
    other.mkdir()
    (other / "thesis.txt").touch()
    code, said = upgrade(used, pack_light("second"))
    assert (code, "got others" in said, used.links()[0], (other / "thesis.txt").exists()) == (1, True, "first", True)


@pytest.mark.parametrize("place", ["releases", "environments"])
def test_links_in_place_of_folders_are_not_followed(used: FakeBoard, tmp_path: Path, place: str) -> None:
    (used.prefix / place).rename(tmp_path / "elsewhere")
    (used.prefix / place).symlink_to(tmp_path / "elsewhere")
    code, said = upgrade(used, pack_light("second"))
    assert (code, "link" in said) == (1, True), said
    assert used.manage("uninstall")[0] == 0
    assert list_all(tmp_path / "elsewhere")


def test_settings_are_for_their_owner_alone(board: FakeBoard, tmp_path: Path) -> None:
    folder = unpack(pack_light("first"), tmp_path / "first")
    install = ("sh", "-c", 'umask 0; exec sh "$1" --prefix "$2"', "sh", folder / "install.sh", board.prefix)
    assert board.run(*install, extra={"HOOK": ""})[0] == 0
    settings = board.prefix / "stream.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    settings.chmod(0o644)
    assert board.run(*install, extra={"HOOK": ""})[0] == 0
    assert settings.stat().st_mode & 0o777 == 0o600
    settings.unlink()
    (board.prefix / "stream.env.new").symlink_to(tmp_path / "target")
    assert board.run(*install, extra={"HOOK": ""})[0] == 0
    assert (settings.stat().st_mode & 0o777, (tmp_path / "target").exists()) == (0o600, False)
    settings.rename(tmp_path / "target")
    settings.symlink_to(tmp_path / "target")
    (tmp_path / "target").chmod(0o644)
    code, said = board.run(*install, extra={"HOOK": ""})
    assert (code, "link" in said, (tmp_path / "target").stat().st_mode & 0o777) == (1, True, 0o644), said


def give_key(board: FakeBoard, key: Path) -> None:
    make_key(key)
    (board.prefix / "key.pem").write_bytes(read_public_key(key))


def sign(board: FakeBoard, data: bytes, key: Path) -> None:
    (board.root / "board.tar.gz.sig").write_bytes(sign_archive(data, key))


def test_what_was_verified_is_what_is_unpacked(used: FakeBoard, tmp_path: Path) -> None:
    give_key(used, tmp_path / "key.pem")
    good, evil = pack_light("second"), {**list_light("evil"), "install.sh": b'echo "$0" >"$HOME/evil-ran"'}
    sign(used, good, tmp_path / "key.pem")
    (used.root / "evil.tar.gz").write_bytes(pack_members(evil))
    swap = f'#!/bin/sh\n/usr/bin/openssl "$@" || exit 1\ncp {used.root}/evil.tar.gz {used.root}/board.tar.gz\n'
    write_program(used.root / "bin/openssl", swap)
    code, said = upgrade(used, good)
    assert (code, used.links()[0], (used.root / "evil-ran").exists()) == (0, "second", False), said


def test_signatures_that_do_not_hold(used: FakeBoard, tmp_path: Path) -> None:
    give_key(used, tmp_path / "key.pem")
    make_key(tmp_path / "other.pem")
    archive, signature = pack_light("second"), used.root / "board.tar.gz.sig"
    assert "signed" in upgrade(used, archive)[1]
    for data, key in ((pack_light("third"), "key.pem"), (archive, "other.pem")):
        sign(used, data, tmp_path / key)
        assert "key" in upgrade(used, archive)[1]
    for left in (b"", b"\0" * 70):
        signature.write_bytes(left)
        assert "key" in upgrade(used, archive)[1]
    assert (used.links()[0], list(used.prefix.glob("incoming.*"))) == ("first", [])


def test_an_older_archive_is_refused_though_it_is_signed(used: FakeBoard, tmp_path: Path) -> None:
    give_key(used, tmp_path / "key.pem")
    steps: list[tuple[str, int | None, tuple[str, ...], bool]] = [
        ("second", 2_000, (), True),
        ("third", 3_000, (), True),
        ("second", 2_000, (), False),
        ("before", None, (), False),
        ("third", 3_000, (), True),
        ("second", 2_000, ("--downgrade",), True),
        ("first", 1_000, (), False),
        ("before", None, ("--downgrade",), True),
        ("third", 3_000, (), True),
    ]
    for name, built, options, taken in steps:
        archive, before = pack_light(name, built), used.links()[0]
        sign(used, archive, tmp_path / "key.pem")
        code, said = upgrade(used, archive, *options)
        assert (code, used.links()[0]) == ((0, name) if taken else (1, before)), said
        assert taken or "--downgrade" in said
    folder = unpack(pack_light("second", 2_000), tmp_path / "by hand")
    assert used.install(folder, {"HOOK": ""})[0] == 1
    assert used.manage("rollback")[0] == 0
    assert upgrade(used, pack_light("second", 2_999))[0] == 1


def pack_members(files: dict[str, bytes], *odd: tarfile.TarInfo) -> bytes:
    whole = {**files, SUMS: list_sums(files).encode()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in whole.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in odd:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return packed.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


ODD = {
    "way out": [entry("../evil")],
    "way out below": [entry("wheels/../../evil")],
    "absolute": [entry("/tmp/edgeseg-evil")],
    "link": [entry("here", tarfile.SYMTYPE, "/tmp"), entry("here/edgeseg-evil")],
    "hard link": [entry("here", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [entry("here", tarfile.CHRTYPE)],
    "fifo": [entry("here", tarfile.FIFOTYPE)],
    "setuid": [entry("here", mode=0o4755)],
    "for everybody": [entry("here", mode=0o666)],
    "twice": [entry("install.sh")],
    "dash": [entry("-rf")],
    "newline": [entry("a\nb")],
    "dot": [entry("./install.sh")],
}


@pytest.mark.parametrize("odd", ODD)
def test_archives_with_more_than_plain_files(used: FakeBoard, odd: str) -> None:
    code, said = upgrade(used, pack_members(list_light("second"), *ODD[odd]))
    assert (code, "plain files" in said, used.links()[0]) == (1, True, "first"), said
    assert not Path("/tmp/edgeseg-evil").exists()
    assert (list(used.prefix.glob("incoming.*")), list(used.prefix.glob("evil"))) == ([], [])


@pytest.mark.parametrize("keep", [0, 1, 20, -200, -8])
def test_archives_cut_short(used: FakeBoard, keep: int) -> None:
    code, said = upgrade(used, pack_light("second")[:keep])
    assert (code, used.links()[0], list(used.prefix.glob("incoming.*"))) == (1, "first", []), said


@pytest.mark.parametrize("name", ["-x.tar.gz", "--", "a b\n.tar.gz", "folder", "fifo", "none"])
def test_archives_of_odd_names(used: FakeBoard, name: str) -> None:
    (used.root / "folder").mkdir()
    os.mkfifo(used.root / "fifo")
    if name not in ("folder", "fifo", "none"):
        (used.root / name).write_bytes(pack_light("second"))
    code, said = used.manage("upgrade", "--", name, extra={"HOOK": ""})
    expected = (1, "first") if name in ("folder", "fifo", "none") else (0, "second")
    assert (code, used.links()[0]) == expected, said


@pytest.mark.parametrize("blocks", [1, 8, 12])
def test_a_disk_that_is_full_in_an_upgrade(used: FakeBoard, blocks: int) -> None:
    (used.root / "board.tar.gz").write_bytes(pack_light("second"))
    script = f'ulimit -f {blocks}; exec sh "$1" upgrade "$2"'
    board, archive = used.prefix / "board.sh", used.root / "board.tar.gz"
    code, said = used.run("sh", "-c", script, "sh", board, archive, extra={"HOOK": ""})
    assert (code, used.links()[0], list(used.prefix.glob("incoming.*"))) == (1, "first", []), said
    assert sorted(path.name[:5] for path in (used.prefix / "releases").iterdir()) == ["first"]


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_a_signal_before_the_switch_leaves_the_old_one(used: FakeBoard, signal: str) -> None:
    before = list_all(used.prefix)
    code, said = upgrade(used, pack_light("second"), hook=f"kill -{signal} $PPID\n")
    assert (code, used.links()[0], "In use" in said) == (1, "first", False), said
    assert list_all(used.prefix) == before


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_a_signal_from_the_switch_on_changes_nothing(used: FakeBoard, signal: str) -> None:
    fake = (FAKES / "systemctl.sh").read_text(encoding="utf-8")
    ending = f"case $* in *restart*) kill -{signal} $PPID; kill -{signal} $$ ;; esac\n"
    write_program(used.root / "bin/systemctl", fake.replace("case $*", ending + "case $*", 1))
    log = str(used.root / "systemctl.log")
    code, said = upgrade(used, pack_light("second"), SYSTEMCTL_LOG=log)
    assert (code, used.links(), "second" in said) == (0, ("second", "first"), True), said
    (used.root / "systemctl.log.broken").touch()
    code, said = upgrade(used, pack_light("third"), SYSTEMCTL_LOG=log)
    assert (code, used.links(), "In use" in said) == (1, ("second", "first"), False), said


def test_a_kill_between_the_two_links(used: FakeBoard) -> None:
    for name in ("second", "third"):
        assert upgrade(used, pack_light(name))[0] == 0
    names = {link: (used.prefix / link).readlink() for link in ("current", "previous")}
    for switched in (False, True):  # the links as a kill in a rollback leaves them, before and after the first of two
        (used.prefix / "leaving").symlink_to(names["current"])
        (used.prefix / "current").unlink()
        (used.prefix / "current").symlink_to(names["previous" if switched else "current"])
        code, said = used.manage("rollback", extra={"HOOK": ""})
        assert (code, set(used.links())) == (0, {"second", "third"}), said
        assert not (used.prefix / "leaving").is_symlink()
        names = {link: (used.prefix / link).readlink() for link in ("current", "previous")}


def test_two_upgrades_at_once(used: FakeBoard) -> None:
    waiting, go = used.root / "waiting", used.root / "go"
    os.mkfifo(go)
    (used.root / "a.tar.gz").write_bytes(pack_light("second"))
    (used.root / "wait").write_text(f": >{waiting}; cat {go} >/dev/null; rm -f {used.root}/wait\n", encoding="utf-8")
    command = ["sh", str(used.prefix / "board.sh"), "upgrade", str(used.root / "a.tar.gz")]
    here = {"PATH": f"{used.root / 'bin'}:/usr/bin:/bin", "HOME": str(used.root), "HOOK": str(used.root / "wait")}
    with subprocess.Popen(command, env=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as first:
        while not waiting.exists() and first.poll() is None:
            os.sched_yield()
        code, said = upgrade(used, pack_light("third"))
        go.write_bytes(b"")
        first.communicate(timeout=60)
    assert (code, "nother installation" in said) == (1, True), said
    assert (first.returncode, used.links()[0], list(used.prefix.glob("incoming.*"))) == (0, "second", [])


def test_a_service_of_others_is_not_replaced(used: FakeBoard) -> None:
    unit = used.root / ".config/systemd/user/edgeseg-stream.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("mine", encoding="utf-8")
    log = {"SYSTEMCTL_LOG": str(used.root / "log"), "XDG_CONFIG_HOME": str(used.root / ".config")}
    code, said = upgrade(used, pack_light("second"), **log)
    assert (code, unit.read_text(encoding="utf-8"), used.links()[0]) == (1, "mine", "first"), said


def give_to_group(folder: Path, group: int) -> None:
    os.chown(folder, 0, group)
    folder.chmod(0o775)


def check_as_root(folder: Path) -> int:
    script = f"id() {{ echo 0; }}; . {SCRIPTS / 'common.sh'}; HOME=/root; use_prefix {folder}/opt; check_prefix"
    return subprocess.run(["sh", "-c", script], capture_output=True, check=False).returncode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_root_installs_nothing_where_others_could_replace_it(tmp_path: Path) -> None:
    changes: list[tuple[Callable[[Path], None], int]] = [
        (lambda _: None, 0),
        (lambda folder: folder.chmod(0o777), 1),
        (lambda folder: folder.chmod(0o1777), 0),
        (lambda folder: os.chown(folder, 12345, 0), 1),
        (lambda folder: give_to_group(folder, 12345), 1),
    ]
    for number, (change, expected) in enumerate(changes):
        folder = tmp_path / str(number)
        folder.mkdir()
        change(folder)
        assert check_as_root(folder) == expected, number


def test_help_needs_no_installation(tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "board")
    for words, code in ((["--help"], 0), (["status"], 1), (["uninstall"], 1)):
        done = subprocess.run(["sh", tmp_path / "board/board.sh", *words], capture_output=True, check=False)
        assert done.returncode == code
    assert list_all(tmp_path / "board") == list_all(SCRIPTS)
