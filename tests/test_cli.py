import pytest

from vesalius.cli import main


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vesalius ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["knowledge", "build", "ubberon", "--out", "x"],
        ["knowledge", "show", "nowhere", "liver"],
        ["train", "text", "--graph", "nowhere", "--out", "x", "--recipe", "huge"],
        ["train", "regions", "--graph", "nowhere", "--cases", "x", "--init", "y", "--out", "z"],
        ["volumes", "prepare", "--layout", "nifti-pairs", "--input", "nowhere", "--graph", "nowhere", "--out", "x"],
        ["train", "regions", "--graph", "g", "--cases", "x", "--init", "y", "--out", "z", "--size", "unet-xxl"],
        ["train", "regions", "--graph", "g", "--cases", "x", "--init", "y", "--out", "z", "--workers", "-1"],
        ["train", "regions", "--graph", "g", "--cases", "x", "--init", "y", "--out", "z", "--memory", "-1"],
        ["train", "text", "--graph", "g", "--out", "z", "--precision", "8-bit"],
        ["convert", "nowhere.pth", "--to", "sat", "--out", "x"],
        ["convert", "nowhere.pth", "--to", "keras", "--out", "x"],
        ["embed", "nowhere", "--prompts", "nowhere.txt", "--out", "x.npy"],
        ["embed", "nowhere", "--prompts", "nowhere.txt", "--out", "x.csv"],
        ["demo", "--config", "nowhere.yaml"],
        ["demo", "--candidates", "none"],
    ],
)
def test_what_a_user_can_cause_is_one_line_and_exit_code_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    assert captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["knowledge", "build"],
        ["volumes", "prepare"],
        ["train", "text"],
        ["train", "regions"],
        ["eval", "encoder"],
        ["convert"],
        ["embed"],
    ],
)
def test_every_command_has_help(command, capsys):
    assert main([*command, "--help"]) == 0
    assert "usage: vesalius" in capsys.readouterr().out
