"""Parts by name, and their options."""

import pytest
import torch

from tutelage import foreign
from tutelage.errors import InputError, RecipeError, UnknownName
from tutelage.recipe import catalogue


@pytest.mark.parametrize(("folder", "name", "close"), [("losses", "kll", "kl"), ("weighting", "auot", "auto")])
def test_a_misspelt_part_is_refused_with_the_closest_names(folder, name, close):
    with pytest.raises(UnknownName, match=rf"there is no \w+ '{name}'; close: .*{close}"):
        catalogue.part(folder, name)


def test_a_part_gets_its_options_and_keeps_its_signature():
    loss = catalogue.made("losses", {"use": "kl", "temperature": 2.0}, where="paths.logits.loss")
    assert torch.allclose(
        loss(torch.eye(3), torch.zeros(3, 3)), loss.func(torch.eye(3), torch.zeros(3, 3), temperature=2.0)
    )


def test_what_a_path_passes_is_no_option():
    with pytest.raises(UnknownName, match="kl has no option 'target'"):
        catalogue.made("losses", {"use": "kl", "target": 1}, where="paths.logits.loss")


def test_a_foreign_part_is_imported_only_from_a_package_that_was_allowed():
    with pytest.raises(InputError, match="--allow-import json"):
        catalogue.part("losses", "json:loads", where="paths.logits.loss")
    assert catalogue.part("losses", "json:loads", allow_import=["json"])("1") == 1


def test_a_foreign_part_that_cannot_be_made_is_the_users_to_mend():
    spec = {"use": "zipfile:ZipFile", "file": "no/such.zip"}
    with pytest.raises(RecipeError, match=r"paths.own.loss: zipfile:ZipFile failed with FileNotFoundError.* Mend it"):
        catalogue.made("losses", spec, allow_import=["zipfile"], where="paths.own.loss")


@pytest.mark.parametrize("name", ["tutelage.foreign:importlib.import_module", "tutelage.engine.train:shutil.rmtree"])
def test_what_our_own_modules_import_is_not_to_be_had_through_them(name):
    with pytest.raises(InputError, match="--allow-import tutelage"):
        foreign.load(name, [])


def test_students_that_a_scheme_has_changed_are_built_unasked():
    for name in foreign.OURS:
        assert callable(foreign.load(name, []))


def test_every_name_in_the_catalogue_leads_to_a_part():
    for folder in catalogue.FOLDERS:
        assert catalogue.names(folder)
        for name in catalogue.names(folder):
            assert callable(catalogue.part(folder, name))
