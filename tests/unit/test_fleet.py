"""A bundle goes to many boards in stages and comes back when a check fails: real board scripts, a fake ssh."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgeseg.cli.app import app
from edgeseg.core.errors import DeployError, EdgesegError, OutputError
from edgeseg.core.marks import held_file
from edgeseg.core.schema import OptionError
from edgeseg.deploy import fleet, remote
from edgeseg.deploy.fleet import (
    DONE,
    GOING_BACK,
    NOT_BACK,
    NOT_PASSED,
    SKIPPED,
    STOPPED,
    VERIFIED,
    WAITING,
    WENT_BACK,
    BoardState,
    Fleet,
    Parcel,
    RollOut,
    find_return,
    prepare,
    read_state,
    state_path,
)
from edgeseg.deploy.inventory import FleetBoard, Found, Needs, look_at_all, read_inventory, refuse_unfit
from edgeseg.deploy.options import FleetOptions
from edgeseg.deploy.remote import Answer
from edgeseg.machine.boards import find_board
from tests.boards import (
    FAKES,
    SETUP,
    SLOW_ENOUGH,
    list_light,
    name_this_board,
    name_this_machine,
    pack_light,
    write_program,
    write_wheel,
)
from tests.commands import Fail, assert_says
from tests.networks import save_network

# The fake edgeseg of a board sources this before it says that all is well.
NEW_FAILS = "case $* in *second*) exit 1 ;; esac\n"


class FakeFleet:
    """Boards behind a fake ssh, in the folder FLEET."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self.names = root, tuple(names)
        self.inventory = root / "fleet.toml"
        for name in names:
            (root / name / "home").mkdir(parents=True)
            (root / name / "hook").touch()
        self.write_inventory()

    def write_inventory(self, more: str = "") -> None:
        tables = [f'[[board]]\nname = "{name}"\nhost = "{name}"\ngroups = ["{name[0]}"]\n' for name in self.names]
        self.inventory.write_text("".join(tables) + more, encoding="utf-8")

    def put(self, board: str, name: str, text: str = "") -> None:
        (self.root / board / name).write_text(text, encoding="utf-8")

    def remove(self, board: str, name: str) -> None:
        (self.root / board / name).unlink()

    def pack(self, name: str) -> Parcel:
        path = self.root / f"{name}.tar.gz"
        path.write_bytes(pack_light(name))
        unpacked = sum(map(len, list_light(name).values()))
        return Parcel((path,), f"{name}-{name.encode().hex():0>12.12}", (name_this_machine(),), unpacked)

    def roll_out(self, name: str, overwrite: bool = False, **options: object) -> RollOut:
        boards, chosen = read_inventory(self.inventory), FleetOptions(**{"parallel": 1, **options})  # type: ignore[arg-type]
        parcel = self.pack(name)
        planned = prepare(self.inventory, boards, parcel, chosen, overwrite)
        work = Fleet(self.inventory, boards, chosen, planned)
        return work.go_back() if planned.outcome == GOING_BACK else work.go_on(parcel)

    def go_back(self) -> RollOut:
        boards = read_inventory(self.inventory)
        return Fleet(self.inventory, boards, FleetOptions(), find_return(self.inventory, boards)).go_back()

    def in_use(self) -> list[str]:
        """List what the boards really carry."""
        links = [self.root / name / "home/.local/share/edgeseg/current" for name in self.names]
        return [link.readlink().name.split("-")[0] if link.is_symlink() else "" for link in links]

    def uploads(self) -> list[str]:
        return [path.name for name in self.names for path in (self.root / name / "home").glob("edgeseg-*")]


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeFleet]:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ssh", "scp"):
        write_program(programs / name, (FAKES / "ssh.sh").read_text(encoding="utf-8"))
    for name in ("systemctl", "id"):
        write_program(programs / name, (FAKES / f"{name}.sh").read_text(encoding="utf-8"))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FLEET", str(tmp_path / "fleet"))
    monkeypatch.setattr(remote, "GRACE_S", 0.2)
    return lambda *names: FakeFleet(tmp_path / "fleet", names or ("a1", "a2", "b1", "b2"))


def list_states(state: RollOut) -> list[str]:
    return [board.state for board in state.boards]


def test_one_then_a_share_then_all(boards: Callable[..., FakeFleet], monkeypatch: pytest.MonkeyPatch) -> None:
    lab, asked = boards(), []
    run = remote.Remote.run
    names = {remote.PROBE: "look", remote.WAIT_AND_INSTALL: "install", remote.VERIFY: "verify"}

    def note(self: remote.Remote, script: str, arguments: Sequence[str], seconds: float) -> Answer:
        asked.append(f"{names[script]} {self.host}")
        return run(self, script, arguments, seconds)

    monkeypatch.setattr(remote.Remote, "run", note)
    ended = lab.roll_out("first", share=0.5)
    assert (ended.outcome, list_states(ended), lab.in_use()) == (DONE, [VERIFIED] * 4, ["first"] * 4)
    assert ended.stages == (("a1",), ("a2",), ("b1", "b2"))
    stages = [asked[start:end] for start, end in ((0, 4), (4, 6), (6, 8), (8, 12))]
    assert [sorted({word.split()[0] for word in stage}) for stage in stages] == [["look"], *[["install", "verify"]] * 3]
    assert read_state(lab.inventory) == ended
    assert lab.uploads() == []


@pytest.mark.parametrize(("count", "share", "stages"), [(1, 0.5, 1), (2, 0.1, 2), (10, 0.3, 3), (10, 1.0, 2)])
def test_how_boards_are_divided(count: int, share: float, stages: int) -> None:
    found = {f"b{number}": Found(reached=True) for number in range(count)}
    planned = fleet.plan_roll_out("r", "0", found, share)
    assert len(planned.stages) == stages
    assert len(planned.stages[0]) == 1
    assert sum(map(len, planned.stages[:2])) in (min(count, max(2, round(share * count))), 1)


def test_a_board_that_does_not_pass_stops_all_and_the_others_go_back(boards: Callable[..., FakeFleet]) -> None:
    lab = boards()
    lab.roll_out("first")
    lab.put("b1", "hook", NEW_FAILS)
    ended = lab.roll_out("second")
    assert (ended.outcome, ended.gate_failed, lab.in_use()) == (STOPPED, True, ["first"] * 4)
    assert list_states(ended) == [WENT_BACK, WENT_BACK, NOT_PASSED, WAITING]
    assert ended.reason.startswith("b1: ")
    lab.put("b1", "hook")
    assert lab.roll_out("second").outcome == DONE


def test_a_model_that_fails_once_it_is_in_use(boards: Callable[..., FakeFleet]) -> None:
    lab = boards()
    lab.roll_out("first")
    lab.put("a1", "hook", "case $2 in */current/*) exit 1 ;; esac\n")
    ended = lab.roll_out("second")
    assert (ended.outcome, list_states(ended)) == (STOPPED, [WENT_BACK, WAITING, WAITING, WAITING])
    assert lab.in_use() == ["first"] * 4


def test_boards_that_had_nothing_have_nothing_again_but_their_settings(boards: Callable[..., FakeFleet]) -> None:
    lab = boards("a1", "a2")
    settings = lab.root / "a1/home/.local/share/edgeseg/stream.env"
    settings.parent.mkdir(parents=True)
    settings.write_text(SLOW_ENOUGH.replace("'0'", "'rtsp://a:secret@cam'"), encoding="utf-8")
    lab.put("a2", "hook", "exit 1\n")
    ended = lab.roll_out("first")
    assert (ended.outcome, lab.in_use()) == (STOPPED, ["", ""])
    assert [path.name for path in settings.parent.iterdir()] == ["stream.env"]
    assert "secret" not in state_path(lab.inventory).read_text(encoding="utf-8")
    assert lab.uploads() == []


@pytest.mark.parametrize("trouble", ["down", "hangs"])
def test_a_board_that_cannot_be_reached(boards: Callable[..., FakeFleet], trouble: str) -> None:
    lab = boards("a1", "a2", "b1")
    lab.put("a1", trouble)
    with pytest.raises(DeployError, match="a1") as caught:
        lab.roll_out("first", timeout_s=1)
    assert "--skip-unreachable" in caught.value.hint
    assert (lab.in_use(), state_path(lab.inventory).exists()) == ([""] * 3, False)
    ended = lab.roll_out("first", timeout_s=1, skip_unreachable=True)
    assert (ended.outcome, list_states(ended)) == (DONE, [SKIPPED, VERIFIED, VERIFIED])
    lab.remove("a1", trouble)
    assert (lab.roll_out("first").outcome, lab.in_use()) == (DONE, ["first"] * 3)


def test_a_disk_without_room_for_the_copy(boards: Callable[..., FakeFleet]) -> None:
    lab = boards("a1", "a2")
    lab.roll_out("first")
    lab.put("a2", "full")
    ended = lab.roll_out("second")
    assert (ended.outcome, ended.gate_failed, lab.in_use()) == (STOPPED, False, ["first", "first"])
    assert "No space left" in ended.reason
    assert lab.uploads() == []


def test_a_board_that_is_lost_goes_back_later(boards: Callable[..., FakeFleet]) -> None:
    lab = boards("a1", "a2")
    lab.roll_out("first")
    # the second verification, of the model in use, takes the board off
    lab.put("a2", "hook", f"case $2 in */current/*) touch {lab.root}/a2/down; exit 1 ;; esac\n")
    ended = lab.roll_out("second")
    assert (ended.outcome, list_states(ended)) == (GOING_BACK, [WENT_BACK, NOT_BACK])
    assert lab.in_use() == ["first", "second"]
    with pytest.raises(DeployError, match="going back") as caught:
        lab.roll_out("third")
    assert "--rollback" in caught.value.hint
    lab.remove("a2", "down")
    assert (lab.roll_out("second").outcome, lab.in_use()) == (STOPPED, ["first", "first"])
    assert list_states(lab.go_back()) == [WENT_BACK, WENT_BACK]


def test_after_a_kill_the_same_command_goes_on(
    boards: Callable[..., FakeFleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = boards()
    lab.roll_out("first")
    run = remote.Remote.run

    def die(self: remote.Remote, script: str, arguments: Sequence[str], seconds: float) -> Answer:
        answer = run(self, script, arguments, seconds)
        if self.host == "a2" and script == remote.WAIT_AND_INSTALL:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(remote.Remote, "run", die)
    with pytest.raises(KeyboardInterrupt):
        lab.roll_out("second")
    monkeypatch.setattr(remote.Remote, "run", run)
    assert lab.in_use() == ["second", "second", "first", "first"]
    left = read_state(lab.inventory)
    assert left is not None
    assert [board.before.split("-")[0] for board in left.boards] == ["first"] * 4
    with pytest.raises(DeployError, match="go on with the roll-out of second-"):
        lab.roll_out("third")
    lab.put("b2", "hook", NEW_FAILS)
    ended = lab.roll_out("second")
    assert (ended.outcome, lab.in_use()) == (STOPPED, ["first"] * 4)
    assert list_states(ended) == [WENT_BACK, WENT_BACK, WENT_BACK, NOT_PASSED]


def test_going_back_by_hand_and_beginning_anew(boards: Callable[..., FakeFleet]) -> None:
    lab = boards("a1", "a2")
    lab.roll_out("first")
    lab.roll_out("second")
    assert (lab.go_back().outcome, lab.in_use()) == (STOPPED, ["first", "first"])
    lab.roll_out("second")
    assert list_states(lab.roll_out("second")) == [VERIFIED, VERIFIED]


def test_boards_that_are_one_and_the_same(boards: Callable[..., FakeFleet]) -> None:
    lab = boards("a1")
    (lab.root / "twin").symlink_to(lab.root / "a1")
    lab.write_inventory('[[board]]\nname = "b"\nhost = "twin"\n')
    with pytest.raises(DeployError, match="a1 and b"):
        lab.roll_out("first")
    assert lab.in_use() == [""]


def test_boards_of_another_kind_and_full_ones_are_refused_before_anything(boards: Callable[..., FakeFleet]) -> None:
    lab = boards("a1")
    found = look_at_all(read_inventory(lab.inventory), FleetOptions())
    here = (name_this_machine(),)
    for needs, fact in (
        (Needs(("riscv64",)), "riscv64"),
        (Needs(here, ("Raspberry Pi 5",)), "Raspberry Pi 5"),
        (Needs(here, room_bytes=2**60), "room on the disk of a1"),
    ):
        with pytest.raises(DeployError, match=fact):
            refuse_unfit(found, needs, skip_unreachable=False)
    lost = {f"b{number}": Found(reached=False, sentence="no route") for number in range(500)}
    with pytest.raises(DeployError, match=r"b0 by ssh, got: no route .and 499 more"):
        refuse_unfit(found | lost, Needs(here), skip_unreachable=False)
    refuse_unfit({"a1": replace(found["a1"], model="Raspberry Pi 5 B")}, Needs(here, ("Pi 4", "Pi 5")), False)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "board"),
        ("board = 3\n", "board"),
        ('[[board]]\nname = "a"\n', "host"),
        ('[[board]]\nname = "a"\nhost = "-oProxyCommand=true"\n', "-oProxyCommand"),
        ('[[board]]\nname = "a"\nhost = "b; rm -rf ~"\n', "rm -rf"),
        ('[[board]]\nname = "a"\nhost = "$(id)"\n', "$(id)"),
        ('[[board]]\nname = "a"\nhost = "b"\nuser = "-l"\n', "-l"),
        ('[[board]]\nname = "a"\nhost = "b"\nport = 0\n', "65535"),
        ('[[board]]\nname = "a"\nhost = "b"\nport = "22"\n', "port"),
        ('[[board]]\nname = "../a"\nhost = "b"\n', "../a"),
        ('[[board]]\nname = "a"\nhost = "b"\npassword = "hunter2"\n', "board[0].password"),
        ('[[board]]\nname = "a"\nhost = "b"\n[[board]]\nname = "a"\nhost = "c"\n', "a twice"),
        ('[[board]]\nname = "a"\nhost = "b"\n[[board]]\nname = "c"\nhost = "B"\n', "got b twice"),
        ('[[board]]\nname = "a"\nhost = "b"\n' + "a" * 20_000 + " = 1", "4096 bytes"),
        ("[[board", "parse"),
    ],
)
def test_inventories_that_are_refused(tmp_path: Path, text: str, fact: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EdgesegError) as caught:
        read_inventory(path)
    assert_says(caught.value, fact, path)
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


def test_inventories_of_thousands_are_read(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    text = "".join(f'[[board]]\nname = "ward-{number}"\nhost = "h{number}.example.org"\n' for number in range(2000))
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read_inventory(path)) == 2000


def test_groups_choose_and_unknown_ones_are_told(boards: Callable[..., FakeFleet]) -> None:
    lab = boards()
    assert [board.name for board in read_inventory(lab.inventory, ["b"])] == ["b1", "b2"]
    assert len(read_inventory(lab.inventory, ["b", "a"])) == 4
    with pytest.raises(EdgesegError, match="'c'"):
        read_inventory(lab.inventory, ["c"])
    with pytest.raises(DeployError, match="no such file"):
        read_inventory(lab.root / "none.toml")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"release": "-x"}', '{"release": "a", "sha256": "", "outcome": "running", "boards": [7]}']
)
def test_states_that_are_damaged(boards: Callable[..., FakeFleet], text: str) -> None:
    lab = boards("a1")
    state_path(lab.inventory).write_text(text, encoding="utf-8")
    with pytest.raises(DeployError, match=r"fleet\.state\.json"):
        lab.roll_out("first")
    assert lab.in_use() == [""]
    assert lab.roll_out("first", overwrite=True).outcome == DONE


@pytest.mark.parametrize("field", [{"before": "a; reboot"}, {"before": "-x"}, {"own": ("../../x",)}])
def test_a_state_puts_nothing_of_others_onto_a_command_line(field: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        BoardState("a", 1, **field)  # type: ignore[arg-type]


def test_options_out_of_range() -> None:
    for wrong in ({"share": 0.0}, {"share": 1.1}, {"parallel": 0}, {"timeout_s": 0.5}, {"soak_s": -1.0}):
        with pytest.raises(OptionError):
            FleetOptions(**wrong)


def test_ports_users_and_addresses_reach_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[Sequence[str]] = []

    def note(command: Sequence[str], *_: object) -> tuple[int, str]:
        ran.append(command)
        return 0, ""

    monkeypatch.setattr(remote, "run_limited", note)
    board = FleetBoard("a", "fe80::1%eth0", "pi", 2222).remote
    board.run("true", ["x y"], 5)
    board.copy([(tmp_path / "f", "g")], 5)
    ssh, scp = ran
    assert ssh[-6:-1] == ["-p", "2222", "-l", "pi", "fe80::1%eth0"]
    assert ssh[-1].endswith("sh -c true sh 'x y'")
    assert scp[-6:] == ["-P", "2222", "-o", "User=pi", str(tmp_path / "f"), "[fe80::1%eth0]:g"]
    assert "BatchMode=yes" in ssh
    assert "BatchMode=yes" in scp


def test_two_roll_outs_at_once(boards: Callable[..., FakeFleet]) -> None:
    lab = boards("a1")
    with held_file(lab.inventory), pytest.raises(OutputError, match=r"fleet\.toml"), held_file(lab.inventory):
        pass


def test_the_command_shows_what_boards_carry(boards: Callable[..., FakeFleet], fail: Fail) -> None:
    lab = boards("a1", "a2")
    lab.roll_out("first")
    lab.put("a2", "down")
    table = lab.root / "f.json"
    code, said = fail("fleet", lab.inventory, "--group", "x")
    assert (code, "'x'" in said) == (1, True)
    lab.put("a1", "hook", "exit 1\n")
    code, said = fail("fleet", lab.inventory, "--verify", "--json", table)
    assert (code, "a1" in said) == (3, True)
    rows = json.loads(table.read_text(encoding="utf-8"))["boards"]
    seen = [(row["reached"], row["now"].split("-")[0], row["verify"]) for row in rows]
    assert seen == [(True, "first", NOT_PASSED), (False, "", "")]
    assert fail("fleet", lab.inventory, "--rollback", "--verify")[0] == 2


def test_looking_at_boards_is_interrupted_in_a_sentence(
    boards: Callable[..., FakeFleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = boards("a1")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeseg.deploy.inventory.look_at", interrupt)
    ended = CliRunner().invoke(app, ["fleet", str(lab.inventory)])
    assert (ended.exit_code, "begin again" in ended.output) == (130, True)


def test_the_commands_words(boards: Callable[..., FakeFleet], fail: Fail) -> None:
    lab = boards("a1")
    command = ("deploy", lab.root / "m.tflite", "--device", "generic-x86_64", "--out", lab.root / "a.tar.gz")
    assert fail(*command, "--fleet", lab.inventory, "--to", "me@board")[0] == 2
    assert fail(*command, "--dry-run")[0] == 2
    assert fail(*command[:-1], lab.inventory, "--fleet", lab.inventory)[0] == 2


def write_light_device(folder: Path) -> Path:
    """Write a board whose setup makes an environment in milliseconds."""
    known = find_board(name_this_board())
    shutil.copytree(known.parent, folder / "light")
    shutil.copy(known.parents[1] / "setup-common.sh", folder)
    (folder / "light/setup.sh").write_text(SETUP, encoding="utf-8")
    return folder / "light/profile.toml"


def test_a_model_goes_to_a_fleet(boards: Callable[..., FakeFleet], tmp_path: Path) -> None:
    lab, runner = boards("a1", "a2"), CliRunner()
    model = save_network(tmp_path / "tiny.tflite").path
    wheel = write_wheel(tmp_path / "edgeseg-9-py3-none-any.whl", "edgeseg", "9")
    out, table = tmp_path / "board.tar.gz", tmp_path / "rollout.json"
    words = ["deploy", model, "--device", write_light_device(tmp_path / "devices"), "--out", out, "--wheel", wheel]
    words += ["--fleet", lab.inventory, "--json", table]
    planned = runner.invoke(app, [str(word) for word in (*words, "--dry-run")])
    assert (planned.exit_code, out.exists(), state_path(lab.inventory).exists()) == (0, False, False), planned.output
    assert (json.loads(table.read_text("utf-8"))["outcome"], lab.in_use()) == ("running", ["", ""])
    ended = runner.invoke(app, [str(word) for word in words])
    written = json.loads(table.read_text("utf-8"))
    assert (ended.exit_code, written["outcome"], out.exists()) == (0, DONE, True), ended.output
    assert {board["now"] for board in written["boards"]} == {written["release"]}
    lab.put("a1", "hook", "exit 1\n")
    stopped = runner.invoke(app, [str(word) for word in words])
    assert stopped.exit_code == 3, stopped.output
