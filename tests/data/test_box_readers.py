import json
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.data.coco import coco
from tutelage.data.source import Source
from tutelage.data.voc import voc
from tutelage.data.yolo import yolo
from tutelage.errors import DataError
from tutelage.tasks import guess

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data" / "bccd"


def boxes(found):
    """The boxes of the training set."""
    return found.parts["train"].targets(torch.arange(len(found.parts["train"])))


def classes(found):
    return found.parts["train"].classes


def picture(file, size=(64, 32)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 200, 30)).save(file)


def annotation(file, *objects):
    file.parent.mkdir(parents=True, exist_ok=True)
    told = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for name, a, b, c, d in objects
    )
    file.write_text(f"<annotation>{told}</annotation>")


def voc_folder(root, *objects):
    for name, found in (("one", objects), ("two", [("cat", 1, 1, 64, 32)])):
        picture(root / "JPEGImages" / f"{name}.png")
        annotation(root / "Annotations" / f"{name}.xml", *found)
    return root


def test_voc_counts_pixels_from_one_and_drops_boxes_without_area(tmp_path):
    root = voc_folder(tmp_path, ("dog", 3, 5, 20, 30), ("cat", 8, 8, 8, 8), ("cat", 50, 1, 90, 10))
    found = voc(root)
    assert isinstance(found, Source)
    assert classes(found) == ("cat", "dog")
    train = found.parts["train"]
    assert train.shape == (3, 32, 64)
    assert boxes(found)[0].tolist() == [[2, 4, 20, 30, 1], [49, 0, 64, 10, 0]]
    assert boxes(found)[1].tolist() == [[0, 0, 64, 32, 0], [0, 0, 0, 0, -1]]
    assert any("1 boxes without an area" in note for note in found.notes)
    assert any("1 boxes were cut" in note for note in found.notes)


def test_pictures_without_boxes_are_background_and_counted(tmp_path):
    found = voc(voc_folder(tmp_path))
    assert (boxes(found)[0, :, 4] == -1).all()
    assert any("1 pictures hold no box" in note for note in found.notes)


def test_a_box_outside_its_picture_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"one\.png: expected boxes inside the picture of 64x32, found \(99, 4, 120, 30\)"
    ):
        voc(voc_folder(tmp_path, ("dog", 100, 5, 120, 30)))


def test_a_class_that_training_does_not_have_is_refused(tmp_path):
    root = voc_folder(tmp_path, ("dog", 3, 5, 20, 30))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("two\n")
    (lists / "test.txt").write_text("one\n")
    with pytest.raises(DataError, match="expected boxes of the classes cat; found 'dog'"):
        voc(root)


@pytest.mark.parametrize("name", ["train", "trainval"])
def test_names_in_lists_may_hold_spaces(tmp_path, name):
    for named in ("n 3 é", "two"):
        picture(tmp_path / "JPEGImages" / f"{named}.png")
        annotation(tmp_path / "Annotations" / f"{named}.xml", ("dog", 3, 5, 20, 30))
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / f"{name}.txt").write_text(" n 3 é \n\ntwo\n", encoding="utf-8")
    (lists / f"dog_{name}.txt").write_text("n 3 é  1\ntwo -1\n", encoding="utf-8")  # of one class: not read
    assert len(voc(tmp_path).parts["train"]) == 2


def sized(file, size):
    file.write_text(file.read_text().replace("<annotation>", f"<annotation><size>{size}</size>"))


@pytest.mark.parametrize(
    ("size", "refused"),
    [
        ("<width>128</width><height>64</height>", True),
        ("<width>64</width><height> 32 </height>", False),
        ("<width>0</width><height>0</height>", False),
        ("<width>64</width>", False),
        ("<width>?</width><height/>", False),
    ],
)
def test_pictures_of_another_size_than_their_annotation_states_are_refused(tmp_path, size, refused):
    root = voc_folder(tmp_path, ("dog", 3, 5, 20, 30))
    sized(root / "Annotations" / "one.xml", size)
    if refused:
        with pytest.raises(DataError, match=r"one\.png is 32x64, annotated as 64x128"):
            voc(root)
    else:
        assert boxes(voc(root))[0, 0].tolist() == [2, 4, 20, 30, 1]


def test_a_damaged_annotation_is_named(tmp_path):
    root = voc_folder(tmp_path)
    (root / "Annotations" / "one.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"one\.xml: expected objects"):
        voc(root)


@pytest.mark.parametrize("folder", ["JPEGImages", "images", "Images"])
def test_voc_is_recognised_wherever_its_pictures_are_read(tmp_path, folder):
    voc_folder(tmp_path, ("dog", 3, 5, 20, 30))
    (tmp_path / "JPEGImages").rename(tmp_path / folder)
    assert guess(tmp_path)[0] == "detection"
    assert classes(voc(tmp_path)) == ("cat", "dog")


def test_coco_files_beside_pictures_are_recognised_and_other_files_are_not(tmp_path):
    content = {
        "info": {},
        "images": [{"id": 7, "file_name": "a.png"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 3, "name": "dog"}],
    }
    picture(tmp_path / "a.png")
    for name in ("empty", "other"):
        (tmp_path / f"{name}.json").write_text("" if name == "empty" else '{"images": 3, "categories": []}')
    assert guess(tmp_path)[0] == "classification"
    for name in ("empty", "other"):
        (tmp_path / f"{name}.json").unlink()
    (tmp_path / "annotations.json").write_text(json.dumps(content, indent=1))
    assert guess(tmp_path)[0] == "detection"
    assert len(coco(tmp_path).parts["train"]) == 1
    (tmp_path / "images").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "images" / "a.png")
    assert guess(tmp_path)[0] == "detection"
    Image.new("L", (64, 32)).save((tmp_path / "images").with_name("a.png"))
    (tmp_path / "masks").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "masks" / "a.png")
    assert guess(tmp_path)[0] == "segmentation"


def test_pictures_keep_their_proportions_and_boxes_follow(tmp_path):
    root = voc_folder(tmp_path, ("dog", 1, 1, 64, 32))
    picture(root / "JPEGImages" / "two.png", (32, 64))
    annotation(root / "Annotations" / "two.xml", ("cat", 1, 1, 32, 64))
    found = voc(root, image_size=32)
    train = found.parts["train"]
    assert train.shape == (3, 32, 32)
    assert boxes(found)[:, 0, :4].tolist() == [[0, 0, 32, 16], [0, 0, 16, 32]]
    pictures = train.gather(torch.tensor([0]))
    assert pictures[0, 1, 15, 31] == 200
    assert pictures[0, :, 16:].sum() == 0
    assert any("2 sizes" in note for note in found.notes)


def coco_folder(root, **changes):
    picture(root / "train" / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 4, 10, 12]},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
        **changes,
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root


def test_coco_orders_classes_by_id_and_leaves_crowds_out(tmp_path):
    found = coco(coco_folder(tmp_path))
    assert classes(found) == ("cat", "dog")
    assert boxes(found).tolist() == [[[2, 4, 12, 16, 1]]]
    assert any("1 boxes of crowds" in note for note in found.notes)


@pytest.mark.parametrize("box", [{"image_id": 8, "category_id": 3}, {"image_id": 7, "category_id": 2}])
def test_coco_annotations_of_unknown_images_and_categories_are_refused(tmp_path, box):
    with pytest.raises(DataError, match="expected an image and a category of this file"):
        coco(coco_folder(tmp_path, annotations=[{"id": 5, "bbox": [1, 1, 2, 2], **box}]))


def test_coco_pictures_that_were_resized_after_they_were_annotated_are_refused(tmp_path):
    high, wide = found_size = coco(coco_folder(tmp_path)).parts["train"].shape[1:]
    image = {"id": 7, "file_name": "a.png"}
    for stated in ({"height": high, "width": wide}, {"height": 0, "width": 0}, {"height": None}):
        assert coco(coco_folder(tmp_path, images=[image | stated])).parts["train"].shape[1:] == found_size
    with pytest.raises(
        DataError, match=rf"a\.png is {high}x{wide}, annotated as {2 * high}x{2 * wide}.*scale the boxes"
    ):
        coco(coco_folder(tmp_path, images=[image | {"height": 2 * high, "width": 2 * wide}]))


def yolo_folder(root, lines="1 0.5 0.5 0.5 0.25\n", names="names: [cat, dog]\n"):
    picture(root / "images" / "train" / "a.png")
    picture(root / "images" / "train" / "b.png")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text(lines)
    (root / "data.yaml").write_text(names)
    return root


def test_yolo_boxes_are_shares_of_the_picture(tmp_path):
    found = yolo(yolo_folder(tmp_path))
    assert classes(found) == ("cat", "dog")
    assert boxes(found).tolist() == [[[16, 12, 48, 20, 1]], [[0, 0, 0, 0, -1]]]


@pytest.mark.parametrize(
    ("line", "message"),
    [("2 0.5 0.5 0.1 0.1", "expected a class from 0 to 1, found 2"), ("0 0.5 0.5 0.1", "expected a class and four")],
)
def test_yolo_lines_that_are_no_box_are_named(tmp_path, line, message):
    with pytest.raises(DataError, match=rf"a\.txt, line 1: {message}"):
        yolo(yolo_folder(tmp_path, line))


def test_other_layouts_are_left_to_others(tmp_path):
    picture(tmp_path / "cat" / "a.png")
    assert voc(tmp_path) is None
    assert coco(tmp_path) is None
    assert yolo(tmp_path) is None


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/bccd")
def test_bccd():
    found = voc(SHARED, image_size=64)
    assert classes(found) == ("Platelets", "RBC", "WBC")
    assert {part: len(members) for part, members in found.parts.items()} == {"train": 205, "selection": 87, "test": 72}
    assert any("2 boxes without an area" in note for note in found.notes)


# -- what goes wrong in such folders


def test_an_empty_annotation_is_damaged_in_voc_and_coco_and_no_box_in_yolo(tmp_path):
    root = voc_folder(tmp_path / "voc")
    (root / "Annotations" / "one.xml").write_text("")
    with pytest.raises(DataError, match=r"one\.xml: expected objects .* no element found"):
        voc(root)
    root = coco_folder(tmp_path / "coco")
    (root / "annotations" / "instances_train.json").write_text("")
    with pytest.raises(DataError, match=r"instances_train\.json: expected JSON, found a damaged file"):
        coco(root)
    root = yolo_folder(tmp_path / "yolo")
    (root / "labels" / "train" / "b.txt").write_text("\n")
    found = yolo(root)
    assert (boxes(found)[1, :, 4] == -1).all()
    assert any("1 pictures hold no box" in note for note in found.notes)


def test_a_set_without_any_box_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected boxes in .*, found none in 1 pictures"):
        coco(coco_folder(tmp_path, annotations=[]))


def test_boxes_outside_are_refused_and_those_without_an_area_left_out_in_every_layout(tmp_path):
    made = coco_folder(tmp_path / "coco", annotations=[{"image_id": 7, "category_id": 3, "bbox": [70, 2, 9, 9]}])
    with pytest.raises(DataError, match=r"a\.png: expected boxes inside the picture of 64x32, found \(70, 2, 79, 11\)"):
        coco(made)
    with pytest.raises(DataError, match=r"a\.png: expected boxes inside"):
        yolo(yolo_folder(tmp_path / "yolo", "1 1.5 0.5 0.25 0.25\n"))
    annotations = [{"image_id": 7, "category_id": 3, "bbox": [2, 2, width, 9]} for width in (0, -4, 9)]
    found = coco(coco_folder(tmp_path / "flat", annotations=annotations))
    assert boxes(found)[0, :, 4].tolist() == [1]
    assert any("2 boxes without an area are left out" in note for note in found.notes)
    found = yolo(yolo_folder(tmp_path / "dot", "1 0.5 0.5 0 0\n0 0.5 0.5 0.5 0.5\n"))
    assert boxes(found)[0, :, 4].tolist() == [0]


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: expected four finite numbers"):
        yolo(yolo_folder(tmp_path, "1 nan 0.5 0.5 0.25\n"))


def test_coco_ids_need_no_order_and_may_leave_gaps_but_stand_for_one_thing(tmp_path):
    picture(tmp_path / "gaps" / "train" / "b.png")
    images = [{"id": 900, "file_name": "b.png"}, {"id": 7, "file_name": "a.png"}]
    categories = [{"id": 90, "name": "dog"}, {"id": 5, "name": "cat"}, {"id": 41, "name": "eel"}]
    annotations = [{"image_id": 7, "category_id": 41, "bbox": [1, 1, 2, 2]}]
    annotations += [{"image_id": 900, "category_id": 90, "bbox": [1, 1, 2, 2]}]
    found = coco(coco_folder(tmp_path / "gaps", images=images, categories=categories, annotations=annotations))
    assert classes(found) == ("cat", "eel", "dog")
    assert boxes(found)[:, 0, 4].tolist() == [2, 1]
    with pytest.raises(DataError, match="expected images with ids of their own, found more than one with 7"):
        coco(coco_folder(tmp_path / "images", images=[{"id": 7, "file_name": "a.png"}] * 2))
    twice = [{"id": 3, "name": "dog"}, {"id": 3, "name": "cat"}]
    with pytest.raises(DataError, match="expected categories with ids of their own, found more than one with 3"):
        coco(coco_folder(tmp_path / "categories", categories=twice))
    same = [{"id": 3, "name": "dog"}, {"id": 1, "name": "dog"}]
    with pytest.raises(DataError, match="expected classes of different names, found 'dog' more than once"):
        coco(coco_folder(tmp_path / "names", categories=same))


@pytest.mark.parametrize(
    ("lines", "number"),
    [("1 0.5 0.5 0.5 0.25\n\n1 0.5 half 0.5 0.25", 3), ("dog 0.5 0.5 0.5 0.5", 1), ("1 0.1 0.1 0.9 0.1 0.9 0.9", 1)],
)
def test_a_malformed_line_of_yolo_is_named_by_its_number_in_the_file(tmp_path, lines, number):
    with pytest.raises(DataError, match=rf"a\.txt, line {number}: expected a class and four numbers"):
        yolo(yolo_folder(tmp_path, lines))


def test_a_label_file_that_is_no_text_is_named_and_a_byte_order_mark_is_read_over(tmp_path):
    root = yolo_folder(tmp_path, "\ufeff1 0.5 0.5 0.5 0.25\n")
    assert boxes(yolo(root))[0, 0].tolist() == [16, 12, 48, 20, 1]
    (root / "labels" / "train" / "a.txt").write_bytes(b"\xff\xfe1")
    with pytest.raises(DataError, match=r"a\.txt: expected text in UTF-8"):
        yolo(root)


def test_yolo_names_are_numbered_without_a_gap(tmp_path):
    root = yolo_folder(tmp_path, names="names: {0: cat, 2: dog}\n")
    with pytest.raises(DataError, match=r"data\.yaml: expected names for the classes 0 to 1, found them for 0, 2"):
        yolo(root)
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("cat\ndog\n")
    assert classes(yolo(root)) == ("cat", "dog")


def test_a_missing_picture_is_an_error_where_it_is_listed_and_a_note_where_it_is_not(tmp_path):
    root = voc_folder(tmp_path / "voc")
    (root / "JPEGImages" / "one.png").unlink()
    with pytest.raises(DataError, match=r"expected a picture and Annotations/one\.xml for 'one'"):
        voc(root)
    with pytest.raises(DataError, match=r"expected the picture 'b\.png' beside it"):
        coco(coco_folder(tmp_path / "coco", images=[{"id": 7, "file_name": "b.png"}]))
    root = yolo_folder(tmp_path / "yolo")
    (root / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    found = yolo(root)
    assert len(found.parts["train"]) == 2
    assert any("1 text files of boxes have no picture and are not read: gone" in note for note in found.notes)


def test_unreadable_pictures_are_left_out_with_their_boxes_or_refused_if_they_are_many(tmp_path):
    root = voc_folder(tmp_path, ("dog", 3, 5, 20, 30))
    (root / "JPEGImages" / "one.png").write_bytes(b"no picture")
    found = voc(root, max_bad=1)
    assert boxes(found).tolist() == [[[0, 0, 64, 32, 0]]]
    assert any("1 picture could not be read and left out: one.png" in note for note in found.notes)
    (root / "JPEGImages" / "two.png").write_bytes(b"")
    with pytest.raises(DataError, match="expected at most 0 unreadable of 2 pictures, found 2"):
        voc(root)


def test_grey_and_16_bit_pictures_are_read_as_8_bits(tmp_path):
    root = voc_folder(tmp_path, ("dog", 3, 5, 20, 30))
    for name in ("one", "two"):
        Image.fromarray(np.full((32, 64), 200 * 256 + 7, dtype=np.uint16)).save(root / "JPEGImages" / f"{name}.png")
    train = voc(root).parts["train"]
    assert train.shape == (1, 32, 64)
    assert (train.gather(torch.tensor([0])) == 200).all()
    Image.new("L", (64, 32), 90).save(root / "JPEGImages" / "one.png")
    picture(root / "JPEGImages" / "two.png")
    train = voc(root).parts["train"]
    assert train.shape == (3, 32, 64)
    assert (train.gather(torch.tensor([0])) == 90).all()


# -- splits by name


def coco_files(root, files):
    """Files of one picture each, which lies in ``images/``: name of the file -> name of its picture."""
    for name, shown in files.items():
        picture(root / "images" / shown)
        content = {
            "images": [{"id": 7, "file_name": shown}],
            "categories": [{"id": 3, "name": "dog"}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 4, 10, 12]}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / name).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (["trainval.json", "test.json"], {"train": "trainval", "test": "test"}),
        (["latest_train.json", "latest_val.json"], {"train": "latest_train", "selection": "latest_val"}),
        (["instances_train2017.json", "train.json"], {"train": "instances_train2017"}),
        (["train.json", "trainval.json", "val.json"], {"train": "train", "selection": "val"}),
    ],
)
def test_coco_files_are_told_by_whole_words(tmp_path, files, parts):
    found = coco(coco_files(tmp_path, {name: f"{name}.png" for name in files}))
    assert found.parts.keys() == parts.keys()
    assert found.layout == f"COCO JSON with {', '.join(f'{name}.json' for name in parts.values())}"


def test_one_file_of_coco_is_not_two_parts(tmp_path):
    with pytest.raises(DataError, match=r"one part in the name of each file, found train_val\.json for train and sel"):
        coco(coco_files(tmp_path, {"train_val.json": "a.png", "test.json": "b.png"}))


def test_no_picture_is_in_two_parts(tmp_path):
    with pytest.raises(DataError, match=r"a\.png is in train and in test"):
        coco(coco_files(tmp_path / "coco", {"train.json": "a.png", "test.json": "a.png"}))
    root = voc_folder(tmp_path / "voc", ("dog", 3, 5, 20, 30))
    listed(root, train="one\ntwo\n", test="two\n")
    with pytest.raises(DataError, match=r"two\.png is in train and in test"):
        voc(root)


def listed(root, **lists):
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)


def test_what_is_listed_for_testing_is_not_trained_on_where_training_has_no_list(tmp_path):
    root = voc_folder(tmp_path, ("dog", 3, 5, 20, 30))
    listed(root, test="two\n")
    with pytest.raises(DataError, match=r"found 'cat'.*bring a picture of it into the training set"):
        voc(root)
    listed(root, test="one\n")
    annotation(root / "Annotations" / "two.xml", ("dog", 1, 1, 64, 32))
    found = voc(root)
    assert {part: len(members) for part, members in found.parts.items()} == {"train": 1, "test": 1}
    assert boxes(found)[0, 0].tolist() == [0, 0, 64, 32, 0]


# -- other people's folders


def test_lower_case_voc_and_annotations_beside_their_pictures_are_read(tmp_path):
    root = voc_folder(tmp_path / "lower", ("dog", 3, 5, 20, 30))
    (root / "JPEGImages").rename(root / "images")
    (root / "Annotations").rename(root / "annotations")
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (*root.glob("*/*.png"), *root.glob("*/*.xml")):
        (flat / file.name).write_bytes(file.read_bytes())
    picture(flat / "bare.png")
    for folder in (root, flat):
        assert guess(folder) == ("detection", f"{folder.name} holds Pascal VOC boxes")
        assert classes(voc(folder)) == ("cat", "dog")
    assert any("1 pictures have no annotation and are not read: bare" in note for note in voc(flat).notes)


@pytest.mark.parametrize("name", ["p.txt", "p.json", "other.json"])
def test_pictures_with_annotations_beside_them_are_not_guessed_to_be_for_super_resolution(tmp_path, name):
    picture(tmp_path / "p.png")
    (tmp_path / "licence.txt").write_text("free")
    assert guess(tmp_path)[0] == "super_resolution"
    (tmp_path / name).write_text("0 0.5 0.5 0.5 0.5")
    assert guess(tmp_path)[0] == "classification"


@pytest.mark.parametrize("exchanged", [False, True])
def test_yolo_splits_may_have_a_year_and_folders_below(tmp_path, exchanged):
    for part, several in (("train2017", ("a", "cam 2/b")), ("val2017", ("c",))):
        for name in several:
            images, labels = (tmp_path / part / w if exchanged else tmp_path / w / part for w in ("images", "labels"))
            picture(images / f"{name}.png")
            (labels / name).parent.mkdir(parents=True, exist_ok=True)
            (labels / f"{name}.txt").write_text("1 0.5 0.5 0.5 0.25\n")
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    assert guess(tmp_path)[0] == "detection"
    found = yolo(tmp_path)
    assert {part: len(members) for part, members in found.parts.items()} == {"train": 2, "selection": 1}
    assert (boxes(found)[:, 0, 4] == 1).all()


def test_text_files_without_pictures_are_not_guessed_to_be_boxes(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    assert guess(tmp_path)[0] == "classification"


def test_two_folders_for_one_part_and_two_pictures_for_one_file_are_refused(tmp_path):
    for part in ("train2014", "train2017"):
        picture(tmp_path / "two" / "images" / part / "a.png")
        (tmp_path / "two" / "labels" / part).mkdir(parents=True)
        (tmp_path / "two" / "labels" / part / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    with pytest.raises(DataError, match="one folder for train, found train2014, train2017"):
        yolo(tmp_path / "two")
    root = yolo_folder(tmp_path / "yolo")
    picture(root / "images" / "train" / "a.jpg")
    with pytest.raises(DataError, match=r"one picture of each name.*found a\.jpg and a\.png"):
        yolo(root)
    root = voc_folder(tmp_path / "voc")
    picture(root / "JPEGImages" / "two.jpg")
    with pytest.raises(DataError, match=r"one picture of each name.*found two\.jpg and two\.png"):
        voc(root)


# -- pictures of cameras


def turned(file, orientation, size=(64, 32)):
    """A picture that is ``size`` when it is seen: red at the left, blue at the right; stored as a camera was held."""
    seen = Image.new("RGB", size, (0, 0, 255))
    seen.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    file.parent.mkdir(parents=True, exist_ok=True)
    seen.transpose(back[orientation]).save(file, exif=exif, quality=95)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_boxes_lie_on_pictures_as_they_are_seen(tmp_path, orientation):
    root = yolo_folder(tmp_path, "1 0.25 0.5 0.5 1\n")
    for name in ("a", "b"):
        (root / "images" / "train" / f"{name}.png").unlink()
        turned(root / "images" / "train" / f"{name}.jpg", orientation)
    found = yolo(root)
    left, top, right, bottom, _ = map(int, boxes(found)[0, 0].tolist())
    inner = found.parts["train"].gather(torch.tensor([0]))[0, :, top + 4 : bottom - 4, left + 4 : right - 4]
    assert inner.shape == (3, 24, 24)
    assert inner[0].min() > 200
    assert inner[2].max() < 50


def test_boxes_that_were_drawn_on_a_picture_as_it_is_stored_are_refused_and_exif_is_named(tmp_path):
    root = voc_folder(tmp_path, ("dog", 3, 5, 20, 30))
    (root / "JPEGImages" / "one.png").unlink()
    turned(root / "JPEGImages" / "one.jpg", 6)
    sized(root / "Annotations" / "one.xml", "<width>64</width><height>32</height>")
    assert voc(root).parts["train"].shape == (3, 32, 64)
    sized(root / "Annotations" / "one.xml", "<width>32</width><height>64</height>")
    with pytest.raises(DataError, match=r"one\.jpg is 32x64, annotated as 64x32.*EXIF.*Orientation"):
        voc(root)
