"""Models of the user in the worker: measured like a ViT, and every way to be wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from numa_bench.records import RunResult, VitSpec
from numa_bench.records.workload import input_shape
from numa_bench.worker import __main__ as worker
from numa_bench.worker.models import build_model, find_output
from tests.specs import make_spec

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)
#: A module of the user's.
NETS = """
import sys
import torch
from torch import nn

def make_net(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout())

class Net(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return {
            "whole": lambda: x,
            "in_place": lambda: x.mul_(2),
            "part": lambda: x[:, 1:],
            "strided": lambda: x.sum(1).transpose(1, 2),
            "zeros": lambda: torch.zeros_like(x),
            "classes": lambda: x.flatten(1).argmax(1),
            "dict": lambda: {"logits": x},
            "tuple": lambda: (x, x),
            "nothing": lambda: None,
            "scalar": lambda: x.mean(),
            "no_batch": lambda: x.mean(0),
            "error": lambda: nn.Linear(3, 3)(x),
        }[self.output]()

class Outer:
    make_inner = staticmethod(make_net)

def fail(): raise ValueError("no such width\\nmore")
def leave(): sys.exit(3)
def make_number(): return 42
def make_forward(): return lambda x: x

class Stubborn(nn.Identity):
    def to(self, *_, **__): raise NotImplementedError("stays where it is")

constant = 5
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Modules of the user in the current directory, which Python does not search by itself."""
    (tmp_path / "usernets.py").write_text(NETS)
    (tmp_path / "brokennets.py").write_text("import no_such_dependency\n")
    (tmp_path / "leavingnets.py").write_text("import sys; sys.exit(4)\n")
    (tmp_path / "wrongnets.py").write_text("def make(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "usernets.py"
    for name in ("usernets", "brokennets", "leavingnets", "wrongnets", "timm"):
        sys.modules.pop(name, None)


def custom(target: str = "usernets.make_net", **args: Any) -> VitSpec:
    return VitSpec("net", target=target, args=args, input_shape=SHAPE)


def measure(vit: VitSpec, **test: Any) -> RunResult:
    return worker.run_spec(
        make_spec(vit=vit, **{"warmup_budget_s": 0.1, **test}), worker.Files(Path("unused"))
    )


@pytest.mark.slow
def test_a_model_is_measured_and_described(module: Path) -> None:
    result = measure(custom(width=6), batch_size=4, num_samples=20)

    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["measured_samples"] == 20
    # Output 6 x 6 x 6, each from 3 x 3 x 3 products.
    assert result.metrics["flop_per_sample"] == 2 * 6 * 36 * 27
    d2h_s = sum(result.samples["d2h_ms"]) / 1e3
    out_bytes = len(result.samples["d2h_ms"]) * 4 * 216 * 4
    assert result.metrics["d2h_gb_per_s"] == pytest.approx(out_bytes / d2h_s / 1e9, rel=1e-3)
    assert result.observed["output_shape"] == [4, 216]
    assert result.observed["output_dtype"] == "float32"
    assert result.observed["model_file"] == str(module)
    digest = hashlib.sha256(module.read_bytes()).hexdigest()
    assert result.observed["model_file_sha256"] == digest
    assert result.observed["output_error"] == 0.0


def test_a_model_is_seeded_and_in_eval_mode_and_in_its_precision() -> None:
    def built(seed: int) -> torch.nn.Module:
        spec = make_spec(vit=custom(), seed=seed, precision="bf16")
        return build_model(spec, CPU)

    weights = [next(built(seed).parameters()) for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].dtype is torch.bfloat16
    assert not weights[0].requires_grad
    assert not built(1).training


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_output_has_the_type_of_the_precision(precision: str) -> None:
    result = measure(custom(), precision=precision)

    assert (result.status, result.error) == ("passed", None)
    assert result.observed["output_dtype"] == {"bf16": "bfloat16", "fp16": "float16"}[precision]


@pytest.mark.parametrize("output", ["whole", "in_place", "part", "strided", "zeros", "classes"])
def test_any_single_tensor_with_a_batch_is_an_output(output: str) -> None:
    result = measure(custom("usernets.Net", output=output))

    assert (result.status, result.error) == ("passed", None)
    assert result.observed["output_dtype"] == ("int64" if output == "classes" else "float32")


@pytest.mark.parametrize("output", ["part", "strided"])
def test_an_output_that_cannot_be_copied_as_it_is_gets_memory_of_its_own(output: str) -> None:
    spec = make_spec(vit=custom("usernets.Net", output=output))
    model, found = find_output(spec, build_model(spec, CPU), CPU)
    batch = torch.randn(input_shape(spec))
    result = model(batch)

    assert tuple(result.shape) == found.shape
    assert result.is_contiguous()
    assert result.untyped_storage().data_ptr() != batch.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("vit", "error"),
    [
        (custom("no_such.fn"), "no_such.fn: ModuleNotFoundError: No module named 'no_such'"),
        (custom("usernets.no_such"), "usernets.no_such: usernets has no attribute 'no_such'"),
        (custom("usernets.Outer.x"), "usernets.Outer.x: usernets.Outer has no attribute 'x'"),
        (custom("usernets.constant"), "usernets.constant is a int, not a function or a class"),
        (
            custom("brokennets.fn"),
            "brokennets.fn: ModuleNotFoundError: No module named 'no_such_dependency'",
        ),
        (custom("leavingnets.fn"), "leavingnets.fn: leavingnets failed: SystemExit: 4"),
        (custom("wrongnets.fn"), "wrongnets.fn: wrongnets failed: SyntaxError: "),
        (custom("usernets.fail"), "usernets.fail() failed: ValueError: no such width"),
        (custom("usernets.leave"), "usernets.leave() failed: SystemExit: 3"),
        (custom(depth=2), "usernets.make_net(depth=2) failed: TypeError: "),
        (custom("usernets.make_number"), "usernets.make_number() returned a int; it has to "),
        (custom("usernets.make_forward"), "usernets.make_forward() returned a function; it "),
        (
            custom("usernets.Stubborn"),
            "usernets.Stubborn() cannot be moved to cpu as torch.float32",
        ),
        (custom("usernets.Net", output="dict"), "(output='dict'): the model returned a dict; it "),
        (custom("usernets.Net", output="tuple"), "the model returned a tuple; it has to return "),
        (custom("usernets.Net", output="nothing"), "the model returned a NoneType; it has to "),
        (custom("usernets.Net", output="scalar"), "the model returned shape () for a batch of 2"),
        (custom("usernets.Net", output="no_batch"), "returned shape (3, 8, 8) for a batch of 2"),
        (
            custom("usernets.Net", output="error"),
            "its forward pass of a batch of shape (2, 3, 8, 8) failed: RuntimeError: mat1 and ",
        ),
    ],
    ids=lambda value: None if isinstance(value, VitSpec) else value[:25],
)
def test_a_model_that_cannot_run_fails_with_one_line(vit: VitSpec, error: str) -> None:
    result = measure(vit)

    assert result.status == "failed"
    assert result.error is not None
    assert result.error.startswith("ModelError: ")
    assert error in result.error
    assert "\n" not in result.error


def test_a_method_of_a_class_makes_a_model_too() -> None:
    model = build_model(make_spec(vit=custom("usernets.Outer.make_inner", width=5)), CPU)
    assert next(model.parameters()).shape[0] == 5


@pytest.mark.slow
def test_an_in_place_model_leaves_the_samples_as_they_are() -> None:
    """The check of the output runs it on a batch of the pool, twice."""
    result = measure(custom("usernets.Net", output="in_place"), num_samples=40)
    assert result.observed["output_error"] == 0.0


@pytest.mark.slow
def test_a_model_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its graph is captured whole; to generate code for it takes a minute and shows no more."""
    capture: Any = torch.compile

    def compile_eagerly(model: Any, **options: Any) -> Any:
        del options["mode"]  # of inductor, and refused beside another backend
        return capture(model, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    result = measure(custom(), compile_model=True)

    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["compile_s"]


@pytest.mark.slow
def test_modules_are_found_in_the_current_directory_even_in_safe_mode(tmp_path: Path) -> None:
    """PYTHONSAFEPATH keeps Python from adding it."""
    code = (
        "import sys; from numa_bench.worker.models.custom import find_object\n"
        "sys.path.remove('') if '' in sys.path else None\n"
        "print(find_object('usernets.make_net').__module__)"
    )
    root = str(Path(worker.__file__).parents[2])
    env = {"PYTHONSAFEPATH": "1", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout.strip() == "usernets", done.stderr


FakeTimm = Callable[[str], None]


@pytest.fixture
def fake_timm(tmp_path: Path) -> FakeTimm:
    """Put a module named timm in the current directory."""

    def put(text: str) -> None:
        (tmp_path / "timm.py").write_text(text)
        sys.path.insert(0, str(tmp_path))

    return put


def timm_net(**args: Any) -> VitSpec:
    return VitSpec("resnet18", timm="resnet18", args=args, input_shape=SHAPE)


@pytest.mark.slow
def test_a_model_of_timm_has_random_weights(fake_timm: FakeTimm) -> None:
    fake_timm(
        "import torch\n"
        "def create_model(model_name, pretrained, num_classes):\n"
        "    assert (model_name, pretrained) == ('resnet18', False)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, num_classes))\n"
    )
    result = measure(timm_net(num_classes=7))

    assert (result.status, result.error) == ("passed", None)
    assert result.observed["output_shape"] == [2, 7]


def test_a_name_that_timm_does_not_know_is_a_failed_run(fake_timm: FakeTimm) -> None:
    fake_timm("def create_model(**kwargs):\n    raise RuntimeError('Unknown model (resnet18)')\n")
    result = measure(timm_net(num_classes=7))

    assert result.status == "failed"
    assert result.error == (
        "ModelError: timm.create_model('resnet18', num_classes=7) failed: "
        "RuntimeError: Unknown model (resnet18)"
    )


def test_without_timm_the_run_is_waived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    result = measure(timm_net())

    assert result.status == "waived"
    assert result.error == "timm is not installed; pip install timm"


def test_a_timm_that_lacks_something_of_its_own_is_a_failed_run(fake_timm: FakeTimm) -> None:
    fake_timm("import no_such_dependency\n")
    result = measure(timm_net())

    assert result.status == "failed"
    assert result.error is not None
    assert "timm cannot be imported: ModuleNotFoundError" in result.error
