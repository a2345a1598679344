import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CUDA_REQUIREMENT = 'nvidia-nccl-cu13==2.29.7; platform_system == "Linux"'


@pytest.fixture(scope="module")
def setup_venv():
    spec = importlib.util.spec_from_file_location("setup_venv", ROOT / "tools" / "setup_venv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(version="2.13.0", requires=(), system="Linux", **archive_info):
    """A pip report on one torch, with the fields that set-up reads."""
    chosen = {
        "download_info": {"url": "https://index.example/torch.whl", "archive_info": archive_info},
        "metadata": {"name": "torch", "version": version, "requires_dist": ["filelock", *requires]},
    }
    return {"install": [chosen], "environment": {"platform_system": system, "python_version": "3.11"}}


@pytest.mark.parametrize("version", [(3, 11, 7), (3, 12, 1), (3, 13, 0), (3, 13, 9)])
def test_a_supported_python_draws_no_complaint(setup_venv, version):
    assert setup_venv.python_complaint(version) == ""


@pytest.mark.parametrize(
    ("version", "says"), [((3, 8, 18), "too old"), ((3, 10, 0), "too old"), ((3, 14, 0), "too new")]
)
def test_another_python_is_named_with_the_remedy_in_one_line(setup_venv, version, says):
    line = setup_venv.python_complaint(version, "/opt/python")
    assert f"/opt/python is Python {version[0]}.{version[1]}, {says}" in line
    assert "PYTHON=python3.12 make demo" in line
    assert "\n" not in line


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_every_supported_python_has_its_own_full_pins(setup_venv, version):
    path = setup_venv.constraints_file(ROOT, version)
    assert path.name == f"py3{version[1]}.txt"
    pins = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert f"torch=={setup_venv.TORCH}" in pins
    assert all(line.count("==") == 1 for line in pins)
    assert setup_venv.forbidden(dict(line.split("==") for line in pins), cuda_allowed=False) == []


def test_a_file_marked_cpu_is_a_cpu_build(setup_venv):
    assert setup_venv.is_cpu_build(report("2.13.0+cpu"))


def test_a_file_marked_for_a_gpu_is_not_a_cpu_build_even_without_requirements(setup_venv):
    assert not setup_venv.is_cpu_build(report("2.13.0+cu130"))
    assert not setup_venv.is_cpu_build(report("2.13.0+rocm7.0"))


def test_an_unmarked_file_is_a_cpu_build_only_where_its_cuda_requirements_do_not_apply(setup_venv):
    assert not setup_venv.is_cpu_build(report(requires=[CUDA_REQUIREMENT]))
    assert setup_venv.is_cpu_build(report(requires=[CUDA_REQUIREMENT], system="Darwin"))
    assert setup_venv.is_cpu_build(report())


def test_cuda_toolkit_with_extras_and_triton_count_as_cuda(setup_venv):
    assert not setup_venv.is_cpu_build(report(requires=["cuda-toolkit[cublas,cudart]==13.0.3"]))
    assert not setup_venv.is_cpu_build(report(requires=['triton==3.7.1; platform_system == "Linux"']))


def test_an_extra_that_nobody_asked_for_does_not_count(setup_venv):
    assert setup_venv.is_cpu_build(report(requires=['nvidia-extra; extra == "gpu"']))


def test_a_marker_that_is_not_understood_counts_as_needed(setup_venv):
    marker = 'triton; platform_system == "Darwin" or platform_machine == "x86_64"'
    assert not setup_venv.is_cpu_build(report(requires=[marker], system="Linux"))
    assert not setup_venv.is_cpu_build(report(requires=['triton; python_version < "3.15"']))


def test_exactly_the_chosen_file_is_installed(setup_venv):
    chosen = report("2.13.0+cpu", hashes={"sha256": "abc"})
    assert setup_venv.exact_requirement(chosen) == "torch==2.13.0+cpu --hash=sha256:abc"
    assert setup_venv.exact_requirement(report("2.13.0+cpu")) == "torch==2.13.0+cpu"


def test_torchvision_is_forbidden_whatever_the_index(setup_venv):
    installed = {"torch": "2.13.0+cpu", "torchvision": "0.28.0"}
    assert setup_venv.forbidden(installed, cuda_allowed=False) == ["torchvision 0.28.0"]
    assert setup_venv.forbidden(installed, cuda_allowed=True) == ["torchvision 0.28.0"]


@pytest.mark.parametrize("name", ["nvidia-nccl-cu13", "nvidia_cublas", "cuda-bindings", "triton", "pytorch-triton"])
def test_cuda_packages_are_forbidden_unless_an_index_was_named(setup_venv, name):
    assert setup_venv.forbidden({name: "1.0"}, cuda_allowed=False) == [f"{name} 1.0"]
    assert setup_venv.forbidden({name: "1.0"}, cuda_allowed=True) == []


def test_a_gpu_build_of_torch_is_forbidden_unless_an_index_was_named(setup_venv):
    assert setup_venv.forbidden({"torch": "2.13.0+cu130"}, cuda_allowed=False) == ["torch 2.13.0+cu130"]
    assert setup_venv.forbidden({"torch": "2.13.0+cu130"}, cuda_allowed=True) == []


def test_a_killed_command_leaves_the_mark_and_a_finished_one_does_not(setup_venv, tmp_path):
    venv = setup_venv.Environment(tmp_path)
    with venv.being_changed():
        assert venv.mark.exists()
    assert not venv.mark.exists()
    with pytest.raises(KeyboardInterrupt), venv.being_changed():
        raise KeyboardInterrupt
    assert venv.mark.exists()
    assert not venv.is_usable()


def test_nothing_is_done_when_nothing_changed(setup_venv, tmp_path, monkeypatch):
    venv = setup_venv.Environment(tmp_path)
    venv.python.parent.mkdir()
    venv.python.touch()
    monkeypatch.setattr(setup_venv, "install_everything", lambda *_: None)
    monkeypatch.setattr(venv, "is_usable", lambda: True)
    setup_venv.set_up(venv, "")
    monkeypatch.setattr(setup_venv, "install_everything", lambda *_: pytest.fail("set up twice"))
    setup_venv.set_up(venv, "")


def test_a_set_up_that_fails_leaves_no_stamp(setup_venv, tmp_path, monkeypatch):
    def fail(*_):
        raise setup_venv.SetUpError("no network")

    venv = setup_venv.Environment(tmp_path)
    venv.stamp.write_text("{}")
    monkeypatch.setattr(setup_venv, "install_everything", fail)
    monkeypatch.setattr(venv, "is_usable", lambda: True)
    with pytest.raises(setup_venv.SetUpError, match="no network"):
        setup_venv.set_up(venv, "")
    assert not venv.stamp.exists()


@pytest.mark.parametrize(
    "words",
    [
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)'",
        "NameResolutionError: Failed to resolve 'index.example'",
        "ERROR: HTTPSConnectionPool: Read timed out.",
    ],
)
def test_sources_out_of_reach_are_told_from_other_failures(setup_venv, words):
    failed = setup_venv.subprocess.CompletedProcess([], 1, "", words)
    assert "cannot reach its sources" in str(setup_venv.failure(failed, "other"))
    other = setup_venv.subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found for x")
    assert str(setup_venv.failure(other, "other")) == "other"


def test_one_index_is_asked_alone_with_the_users_certificates(setup_venv, monkeypatch):
    class Fake:
        def pip(self, *_):
            return setup_venv.subprocess.CompletedProcess([], 0, "global.cert='/ca.pem'\nglobal.find-links='/x'\n", "")

    monkeypatch.setenv("PIP_FIND_LINKS", "/x")
    monkeypatch.delenv("PIP_CERT", raising=False)
    environ = setup_venv.only_index(Fake(), "https://index.example")
    assert environ["PIP_CERT"] == "/ca.pem"
    assert environ["PIP_INDEX_URL"] == "https://index.example"
    assert "PIP_FIND_LINKS" not in environ
