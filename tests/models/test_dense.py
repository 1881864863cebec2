"""Networks for segmentation: found, started from a classifier's weights, kept in a folder."""

import functools

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from tutelage import Distiller, Frozen, Path
from tutelage.errors import ModelError, UnknownName
from tutelage.losses import cwd, kl
from tutelage.models import find, load, save
from tutelage.tasks import Segmentation

pytest.importorskip("segmentation_models_pytorch")
transformers = pytest.importorskip("transformers")

TASK = Segmentation(3)
NET = "smp/unet:mobilenetv3_small_050"
SEGFORMER = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
SMALL = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}


def dense(source=NET, size=(32, 32), **options):
    options = {"num_classes": 3, "fits": functools.partial(TASK.fits, columns=3), "seed": 0, **options}
    return find(source, input_size=size, **options)


def test_pictures_of_any_size_get_maps_of_their_own_grid():
    batch = TASK.unpack((torch.rand(2, 3, 36, 50), torch.zeros(2, 36, 50, dtype=torch.long)))
    for source in ("smp/linknet:mobilenetv3_small_050", "torchvision/lraspp_mobilenet_v3_large"):
        model = dense(source, (36, 50)).eval()
        assert TASK.call(model, batch).shape == (2, 3, 36, 50)
    assert dense("smp/linknet:mobilenetv3_small_050", (36, 50)).preprocess.size == (64, 64)
    assert dense("smp/linknet:mobilenetv3_small_050", (32, 64)).preprocess.size is None


def test_an_encoder_starts_from_the_weights_of_a_classifier_and_that_is_said(tmp_path):
    classifier = find("timm/mobilenetv3_small_050", num_classes=7, seed=3)
    save_file(classifier.state_dict(), tmp_path / "net.safetensors")
    model = dense(weights=tmp_path / "net.safetensors", new_classifier=True)
    assert_close(model.encoder.model.conv_stem.weight, classifier.conv_stem.weight)
    (note,) = model.origin["notes"]
    assert "the encoder starts from net.safetensors" in note
    assert "classifier" in note
    with pytest.raises(ModelError, match="do not fit"):  # a teacher must come whole
        dense(weights=tmp_path / "net.safetensors")


def test_a_network_comes_back_from_its_folder(tmp_path):
    model = dense(arguments=SMALL).eval()
    save(model, tmp_path, card="# net", classes=["a", "b", "c"], input_size=(32, 32), finish=TASK.finish)
    again = load(tmp_path).eval()
    pictures = torch.rand(2, 3, 32, 32)
    assert_close(again(again.preprocess(pictures)), model(model.preprocess(pictures)))
    code = (tmp_path / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    spoken = {}
    exec(code.replace("model.safetensors", str(tmp_path / "model.safetensors")), spoken)
    assert_close(spoken["predict"](pictures), model(model.preprocess(pictures)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("smp/unett:resnet18", "close: unet"),
        ("smp/unet", "expected smp/DECODER:ENCODER"),
        ("smp/unet:resnet1", "resnet"),
    ],
)
def test_misspelt_networks_are_refused_with_what_is_close(source, message):
    with pytest.raises(UnknownName, match=message):
        dense(source)


def test_a_classifier_is_none():
    with pytest.raises(ModelError, match="expected maps of logits"):
        dense("cifar/resnet8")


# --- transformers


def test_a_network_of_transformers_is_student_and_teacher_by_name(tmp_path):
    student, teacher = (
        dense("hf/segformer:segmentation", arguments={**SEGFORMER, "decoder_hidden_size": width}) for width in (8, 16)
    )
    batch = TASK.unpack((torch.rand(2, 3, 36, 50), torch.randint(3, (2, 36, 50))))
    assert student(student.preprocess(batch.inputs)).shape == (2, 3, 9, 13)  # stride 4
    assert TASK.call(student, batch).shape == (2, 3, 36, 50)
    paths = {"logits": Path(kl), "channels": Path(cwd)}
    step = Distiller(student, teachers={"big": Frozen(teacher)}, paths=paths, task=TASK)(batch)
    step.loss.backward()
    assert step.loss.isfinite()
    assert student.model.segformer.stages[0].patch_embeddings.proj.weight.grad.abs().sum() > 0
    save(student.eval(), tmp_path, card="# net", classes=["a", "b", "c"], input_size=(36, 50), finish=TASK.finish)
    again = load(tmp_path).eval()
    assert_close(TASK.call(again, batch), TASK.call(student, batch))


def test_a_local_folder_of_transformers_says_that_it_answers_for_pixels(tmp_path):
    config = transformers.AutoConfig.for_model("segformer", num_labels=3, **SEGFORMER)
    trained = transformers.AutoModelForSemanticSegmentation.from_config(config).eval()
    trained.save_pretrained(tmp_path)
    pictures = torch.rand(2, 3, 32, 32)
    for source in (f"hf/{tmp_path}", trained):
        model = dense(source).eval()
        assert_close(model(pictures), trained(pictures).logits)
        assert model.origin["arguments"]["architectures"] == ["SegformerForSemanticSegmentation"]


def test_a_type_is_a_classifier_unless_pixels_are_asked_for():
    with pytest.raises(ModelError, match="expected maps of logits"):
        dense("hf/segformer", arguments=SEGFORMER)
    assert find("hf/segformer", num_classes=5, arguments=SEGFORMER)(torch.rand(2, 3, 32, 32)).shape == (2, 5)
    with pytest.raises(UnknownName, match="nothing is fetched"):
        dense("hf/vit:segmentation")
