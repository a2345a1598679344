import pytest

from vesalius.cli import main


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["knowledge", "check", "--folder", "nothing"], "no file of the handbook"),
        (["knowledge", "check", "--folder", "damaged", "--tidy"], r"x.jsonl:1: no JSON"),
        (["eval", "handbook", "--cases", "nothing"], "nothing: no cases folder here"),
        (["eval", "handbook", "--cases", "nothing", "--folder", "damaged"], "nothing: no cases folder here"),
    ],
)
def test_what_a_user_can_cause_is_one_line(arguments, complaint, tmp_path, monkeypatch, capsys):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "x.jsonl").write_text("{")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert complaint in told[0]


def test_checking_the_shipped_handbook_says_what_there_is(capsys, monkeypatch, uberon_and_mondo):
    monkeypatch.setattr("vesalius.knowledge.build.build_graph", lambda sources: uberon_and_mondo)
    assert main(["knowledge", "check"]) == 0
    assert "entries" in capsys.readouterr().out
