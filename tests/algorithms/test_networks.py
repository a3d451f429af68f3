"""Networks: shapes, reach, weights that are refused, and the published layout."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from stac2cube.errors import BadInputError  # noqa: E402
from stac2cube.superres import networks as sen2sr  # noqa: E402
from stac2cube.superres.backends import device_for, open_upscaler  # noqa: E402
from stac2cube.superres.networks import NETWORKS, RADIUS, answer, generation_of, read_weights, sha256_of  # noqa: E402
from stac2cube.superres.optics import bicubic  # noqa: E402
from stac2cube.superres.weights import Shipped, all_shipped, shipped  # noqa: E402


def picture(bands: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 0.4, (1, bands, 48, 48)).astype("float32")


@pytest.mark.parametrize(("name", "bands", "out", "finer"), [("sharpen", 5, 1, 4), ("fuse", 10, 6, 1)])
@pytest.mark.parametrize("file", all_shipped(), ids=lambda file: file.name)
def test_our_networks_answer_in_proportion_and_see_only_so_far(
    file: Shipped, name: str, bands: int, out: int, finer: int
) -> None:
    network = read_weights(file.path)[name]
    given = picture(bands)
    said = answer(network, given, "cpu")
    assert said.shape == (1, out, 48 * finer, 48 * finer)
    np.testing.assert_allclose(answer(network, 2 * given, "cpu"), 2 * said, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(answer(network, given + 0.5, "cpu"), said, atol=2e-5)
    other = given.copy()
    other[..., :, 24 + RADIUS + 1 :] = 0.9
    changed = answer(network, other, "cpu")
    np.testing.assert_array_equal(changed[..., : 25 * finer], said[..., : 25 * finer])
    assert (changed != said).any()
    phases = answer(network, given, "cpu", phases=True)
    shuffled = torch.nn.functional.pixel_shuffle(torch.from_numpy(phases), finer)
    np.testing.assert_array_equal(shuffled.numpy(), said)


def test_shipped_weights_are_small_and_what_they_are_said_to_be() -> None:
    newest, exchanged, oldest = all_shipped()
    assert shipped() == newest.path == shipped("0" * 64)
    assert not newest.about
    assert oldest.about == "trained with red and blue swapped"
    assert exchanged.about.startswith("trained with red and blue swapped, and corrected by exchanging")
    # A cube names its weights by these: they never change, and never go.
    assert exchanged.sha256 == "059a323917ae2dc5c01031e2aec0da57ca33d11363ea1589d4333b68a12f66a5"
    assert oldest.sha256 == "dd4a1f0a9752a4ef5e22290f9185cab781041fae8488a1f125f1bea90ba7b7f3"
    for one, generation in ((newest, 2), (exchanged, 2), (oldest, 1)):
        assert shipped(one.sha256) == one.path
        assert one.path.stat().st_size < 1_000_000
        assert sha256_of(one.path) == one.sha256
        assert generation_of(one.path) == generation
        assert set(read_weights(one.path)) == set(NETWORKS)


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no weights"):
        read_weights(tmp_path / "nowhere.safetensors")
    (tmp_path / "p.pt").write_bytes(pickle.dumps({"sharpen": [1, 2]}))
    with pytest.raises(BadInputError, match="pickles are never opened"):
        read_weights(tmp_path / "p.pt")
    torch.save({"sharpen.a": torch.zeros(3)}, tmp_path / "t.pt")
    with pytest.raises(BadInputError, match="pickles are never opened"):
        read_weights(tmp_path / "t.pt")
    save_file({"sharpen.last.weight": torch.zeros(1, 2, 3, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(BadInputError, match="other weights than the network 'sharpen'"):
        read_weights(tmp_path / "w.safetensors")


def cascade(folder: Path) -> None:
    """Random weights in the published layout."""
    torch.manual_seed(0)
    folder.mkdir()
    for name, shape in sen2sr.FILES.items():
        save_file(sen2sr.network(*shape).state_dict(), folder / f"{name}.safetensor")


def test_the_published_layout_is_read_and_folded(tmp_path: Path) -> None:
    cascade(tmp_path / "lite")
    made = sen2sr.read_cascade(tmp_path / "lite")
    assert len(made["sr_model"].state_dict()) == 204
    assert sum(part.numel() for part in made["sr_model"].parameters()) == 572_336
    assert sum(part.numel() for part in made["model"].parameters()) == 566_554
    # The folded convolution is the three and the shortcut, away from the edges that they pad differently.
    part = made["sr_model"].conv_1
    given = torch.from_numpy(picture(4))
    with torch.no_grad():
        one = torch.nn.functional.conv2d(given, part.conv[0].weight, part.conv[0].bias)
        three = part.conv(given) + part.sk(given)[:, :, 1:-1, 1:-1]
    assert one.shape[1] == 8
    assert torch.allclose(part(given)[:, :, 1:-1, 1:-1], three, atol=1e-5)
    fine, coarse = picture(4)[0], picture(6, 1)[0]
    opened = open_upscaler("sen2sr", str(tmp_path / "lite"), "cpu")
    assert opened.fuse(fine, coarse[:, ::2, ::2], ()).shape == (6, 48, 48)
    assert opened.sharpen(fine, coarse, ()).shape == (10, 192, 192)
    save_file({"conv_1.sk.weight": torch.zeros(1)}, tmp_path / "lite/model.safetensor")
    with pytest.raises(BadInputError, match="does not hold the network of SEN2SR-Lite"):
        sen2sr.read_cascade(tmp_path / "lite")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_not_replaced_in_silence() -> None:
    with pytest.raises(BadInputError, match="no GPU here"):
        device_for("cuda")
    assert device_for("auto") == "cpu"


def nearest_model(folder: Path, bands: int) -> None:
    """Repeats pixels four times, as an ONNX graph."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    scales = helper.make_tensor("scales", kind, [4], [1.0, 1.0, 4.0, 4.0])
    node = helper.make_node(
        "Resize",
        ["x", "", "scales"],
        ["y"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    shapes = [helper.make_tensor_value_info(name, kind, [1, bands, None, None]) for name in ("x", "y")]
    graph = helper.make_graph([node], "nearest", shapes[:1], shapes[1:], [scales])
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )


def convolving_model(folder: Path) -> None:
    """Convolutions of 3 x 3 and, with a bias, of 1 x 1, whose sums threads may cut otherwise; four times finer."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    rng = np.random.default_rng(0)
    shapes = {"wide": (32, 4, 3, 3), "deep": (64, 32, 1, 1), "bias": (64,)}
    values = {name: rng.normal(0, 0.2, shape).astype("float32") for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "wide"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "deep", "bias"], ["b"]),
        helper.make_node("DepthToSpace", ["b"], ["y"], blocksize=4),
    ]
    ends = [helper.make_tensor_value_info(name, kind, [1, 4, None, None]) for name in ("x", "y")]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "convolving", ends[:1], ends[1:], constants)
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.yaml").write_text("bands: [B02, B03, B04, B08]\nfactor: 1\nmargin: 1\nlicence: mine\n")


def test_an_onnx_model_is_asked_as_its_file_says(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    nearest_model(folder, 5)
    with pytest.raises(BadInputError, match=r"no model\.yaml"):
        open_upscaler("onnx", str(folder), "cpu")
    about = "bands: [B08, B04, B03, B02, B05]\nfactor: 10000\nmargin: 12\nlicence: mine\n"
    (folder / "model.yaml").write_text(about)
    opened = open_upscaler("onnx", str(folder), "cpu")
    assert opened.radius == 12
    fine, coarse = picture(4)[0], picture(2, 1)[0]
    made = opened.sharpen(fine, coarse, ("B05", "B11"))
    np.testing.assert_allclose(made[:4], fine.repeat(4, axis=1).repeat(4, axis=2), atol=1e-6)
    np.testing.assert_allclose(made[4], coarse[0].repeat(4, axis=0).repeat(4, axis=1), atol=1e-6)
    np.testing.assert_array_equal(made[5], bicubic(coarse[1:], 4)[0])
    with pytest.raises(BadInputError, match="wants B05"):
        opened.sharpen(fine, coarse[:0], ())
    for text, message in ((about + "run: me\n", "and nothing else"), (about.replace("B02, ", ""), "should make B02")):
        other = tmp_path / message[:3]
        other.mkdir()
        (other / "model.yaml").write_text(text)
        (other / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
        with pytest.raises(BadInputError, match=message):
            open_upscaler("onnx", str(other), "cpu")
    (other / "model.yaml").write_text(about)
    (other / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(BadInputError, match="is no ONNX model"):
        open_upscaler("onnx", str(other), "cpu")


class Small(torch.nn.Module):
    """Runs out of memory where it is given more than it can take, as a GPU does: there is none here to fill."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sizes = most, []

    def forward(self, pictures):
        if len(pictures) > self.most:
            raise torch.OutOfMemoryError
        self.sizes.append(len(pictures))
        return 2 * pictures


def test_a_batch_that_does_not_fit_is_halved() -> None:
    given = np.random.default_rng(0).random((7, 2, 4, 4)).astype("float32")
    network = Small(2)
    np.testing.assert_array_equal(answer(network, given, "cpu"), 2 * given)
    assert network.sizes == [2, 2, 2, 1]
    with pytest.raises(MemoryError, match="say a smaller tile"):
        answer(Small(0), given, "cpu")
