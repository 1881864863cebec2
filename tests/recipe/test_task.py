import pytest

from tutelage.data import open_data
from tutelage.errors import RecipeError, UnknownName
from tutelage.recipe import schema
from tutelage.recipe.build import build_task, choose_task, data_options
from tutelage.tasks import Classification


def recipe(**changes):
    return schema.parse({"data": "digits", "student": "cifar/resnet8", **changes})


def test_a_key_that_the_reader_does_not_take_is_refused_with_the_closest_ones():
    spec = recipe(data={"use": "digits", "batchsize": 3}).data
    with pytest.raises(UnknownName, match="data: there is no key 'batchsize' for classification; close: batch_size"):
        data_options(spec, Classification)


def test_a_reader_is_told_what_the_recipe_says_of_the_data():
    options = data_options(recipe(data={"use": "digits", "limit": 7, "seed": 3}).data, Classification)
    assert (options["limit"], options["seed"]) == (7, 3)
    assert not {"use", "batch_size", "views", "augment"} & options.keys()


def test_the_task_is_guessed_where_the_recipe_names_none_and_its_options_stay():
    named, why = choose_task(recipe(task={"label_smoothing": 0.1}), {})
    assert named.task.as_dict() == {"use": "classification", "label_smoothing": 0.1}
    assert why == ""  # nothing was recognised: classification is the default
    kept = recipe(task="mine.tasks:depth")
    assert choose_task(kept, {})[0] is kept


def test_a_task_is_told_the_classes_of_the_data():
    splits = open_data("digits")
    assert build_task(choose_task(recipe(), {})[0], splits, ()).classes == splits.classes
    with pytest.raises(RecipeError, match="expected 10, as in the data; found 3"):
        build_task(choose_task(recipe(task={"num_classes": 3}), {})[0], splits, ())
