"""The main job through the real command line: a run, its folder, its resumption, its export."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

SMALL = ["--set", "data.limit=256", "--set", "data.batch_size=32", "--set", "train.log_every=3"]
SMALL += ["--set", "train.checkpoint_every=0.0", "--set", "train.epochs=3", "--set", "train.ema=0.9"]
CONTRAST = ["--set", "paths=[logits, pooled, contrast]"]


def job(teacher: pathlib.Path, out: pathlib.Path) -> list[str]:
    given = ["distill", "--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--teacher", f"again={teacher}"]
    return [*given, "--data", "digits", "--out", str(out), *SMALL, *CONTRAST]


@pytest.fixture(scope="module")
def whole(teacher, tmp_path_factory) -> pathlib.Path:
    """An uninterrupted run."""
    from tutelage.cli.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(job(teacher, out)) == 0
    return out


def start(arguments: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "tutelage", *arguments]
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def grown(folder: pathlib.Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.stat().st_size if metrics.exists() else 0


def test_the_run_folder_holds_what_was_promised(whole):
    names = ["recipe.yaml", "manifest.json", "metrics.jsonl", "run.log", "result.json", "report.html"]
    names += ["evaluation.json", "evaluation.safetensors"]
    names += ["checkpoints/last.ckpt", "checkpoints/best.ckpt"]
    names += [f"{model}/{file}" for model in ("student", "baseline") for file in ("model.safetensors", "config.json")]
    assert [name for name in names if not (whole / name).exists()] == []
    result = json.loads((whole / "result.json").read_text())
    assert result["schema"] == 1
    assert set(result["teachers"]) == {"big", "again"}
    assert set(result["paths"]) == {"logits", "pooled", "contrast"}
    assert result["verdict"] in ("better", "no difference", "worse")
    low, high = result["interval"]
    assert low <= result["delta"] <= high
    for key in ("validation", "test"):
        assert 0 <= result["student"][key] <= 1
        assert 0 <= result["baseline"][key] <= 1


def test_nothing_unfinished_is_left_and_models_are_readable_by_all(whole):
    left = [file for file in whole.rglob(".*") if file.is_file() and file.name != ".lock"]
    assert left == []
    umask = os.umask(0)
    os.umask(umask)
    for file in ("student/model.safetensors", "student/model.pt2", "evaluation.safetensors", "result.json"):
        assert (whole / file).stat().st_mode & 0o777 == 0o666 & ~umask, file


def test_the_manifest_says_by_which_code_data_and_teachers_it_was_made(whole):
    prints = json.loads((whole / "manifest.json").read_text())["fingerprints"]
    assert set(prints) == {"data", "code", "teacher big", "teacher again"}
    assert prints["teacher big"] == prints["teacher again"]


def test_the_resolved_recipe_gives_the_same_run_again(whole, tutelage, tmp_path):
    assert tutelage("distill", whole / "recipe.yaml", "--out", tmp_path / "again")[0] == 0
    first, second = (load_file(run / "student" / "model.safetensors") for run in (whole, tmp_path / "again"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_ten_times_it_ends_with_the_same_student_bit_for_bit(whole, teacher, tmp_path):
    out, draw = tmp_path / "killed", random.Random(0)
    kills = 0
    while kills < 10:
        resumed = (out / "recipe.yaml").exists()
        process = start(["distill", "--resume", "--out", str(out)] if resumed else job(teacher, out))
        size, patience = grown(out), time.monotonic() + 120
        more = draw.randint(1, 1500)  # bytes of metrics: a few steps, an epoch, or into the baseline
        while process.poll() is None and grown(out) < size + more and time.monotonic() < patience:
            time.sleep(0.002)
        if process.poll() is None:
            time.sleep(draw.random() * 0.05)
            process.kill()
            kills += 1
        _, message = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, message
    else:
        process = start(["distill", "--resume", "--out", str(out)])
        _, message = process.communicate(timeout=300)
        assert process.returncode == 0, message
    assert kills >= 5
    for model in ("student", "baseline"):
        expected, found = (load_file(run / model / "model.safetensors") for run in (whole, out))
        assert all(torch.equal(value, found[name]) for name, value in expected.items()), model
    assert (out / "metrics.jsonl").read_text().count("\n") == (whole / "metrics.jsonl").read_text().count("\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_130_and_the_line_that_goes_on(teacher, tmp_path, tutelage, number):
    out = tmp_path / "stopped"
    process = start([*job(teacher, out), "--set", "train.epochs=50"])
    patience = time.monotonic() + 120
    while grown(out) < 300 and time.monotonic() < patience and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130, message
    assert f"tutelage distill --out {out} --resume" in message
    assert "Traceback" not in message
    assert (out / "checkpoints" / "last.ckpt").exists()


def test_a_signal_between_stages_or_at_the_test_split_counts_and_a_finished_run_stands(
    teacher, tutelage, tmp_path, monkeypatch
):
    out, few = tmp_path / "run", ["--set", "data.limit=128", "--set", "train.epochs=2", "--set", "paths=[logits]"]
    arguments = ["distill", "--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits", *few]
    arguments += ["--out", out]
    for place in ("train._keep", "run.answer"):
        with monkeypatch.context() as patched:
            patched.setattr(f"tutelage.engine.{place}", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
            code, _, message = tutelage(*arguments)
        assert code == 130, message
        assert f"To go on: tutelage distill --out {out} --resume" in message
        assert not (out / "result.json").exists()
        arguments = ["distill", "--out", out, "--resume"]
    assert tutelage(*arguments)[0] == 0
    told = (out / "result.json").read_bytes()
    seconds = json.loads(told)["seconds"]
    assert seconds["total"] >= seconds["student"] + seconds["baseline"]
    monkeypatch.setattr("tutelage.engine.run.answer", None)  # the test split is read once
    code, printed, message = tutelage(*arguments, "--json")
    assert code == 0, message
    assert "finished before" in message
    assert "verdict: " in message
    assert json.loads(printed) == json.loads(told)
    assert (out / "result.json").read_bytes() == told
    import tutelage as tu

    again = tu.distill(out=out, resume=True)
    assert again.result == json.loads(told)
    assert again.student(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert again.baseline is not None


def test_a_result_that_was_cut_off_is_made_again(teacher, tutelage, tmp_path):
    out = shutil.copytree(teacher, tmp_path / "run")
    before = json.loads((out / "result.json").read_text())
    os.truncate(out / "result.json", 0)
    assert tutelage("train", "--out", out, "--resume")[0] == 0
    assert json.loads((out / "result.json").read_text())["student"] == before["student"]


def test_a_stop_before_the_first_step_also_names_the_line_that_goes_on(teacher, tutelage, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tutelage.cli.cache.fill", stop)
    code, _, message = tutelage(*job(teacher, tmp_path / "stopped"))
    assert code == 130
    assert f"To go on: tutelage distill --out {tmp_path / 'stopped'} --resume" in message
    monkeypatch.setattr("tutelage.cli.runfolder.create", stop)
    code, _, message = tutelage(*job(teacher, tmp_path / "earlier"))
    assert code == 130
    assert "nothing was written" in message
    monkeypatch.setattr("tutelage.cli.distill.gather", stop)
    code, _, message = tutelage(*job(teacher, tmp_path / "earliest"))
    assert (code, message.split()) == (130, ["interrupted"])


def test_a_run_with_objects_from_python_is_resumed_with_the_same_objects(tmp_path, monkeypatch):
    import tutelage as tu
    from tutelage.errors import Interrupted

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    options = {"train": {"epochs": 1}, "assignments": ["data.limit=128", "data.batch_size=32"]}

    def stop(*_, **__):
        raise KeyboardInterrupt

    for command, given in (
        ("train", {"model": net}),
        ("distill", {"student": "cifar/resnet8", "teachers": {"a": net}}),
    ):
        run = getattr(tu, command)
        forced = {"force": True, "paths": ["logits"]} if command == "distill" else {}
        out = tmp_path / command
        with monkeypatch.context() as patched:
            patched.setattr("tutelage.cli.cache.fill", stop)
            with pytest.raises(Interrupted, match=f"tutelage.{command}.*resume=True"):
                run(**given, data="digits", out=out, **options, **forced)
        assert run(**given, data="digits", out=out, resume=True).folder == out


def test_a_run_is_resumed_by_the_command_that_made_it(whole, teacher, tutelage):
    result = (whole / "result.json").read_bytes()
    code, _, message = tutelage("train", "--out", whole, "--resume")
    assert code == 2
    assert f"tutelage distill --out {whole} --resume" in message
    assert (whole / "result.json").read_bytes() == result
    code, _, message = tutelage("distill", "--out", teacher, "--resume")
    assert code == 2
    assert f"tutelage train --out {teacher} --resume" in message


STAGE = "checkpoints/stages/student"


@pytest.mark.parametrize(
    ("damage", "size"),
    [("manifest.json", 1), (f"{STAGE}/done.json", 0), (f"{STAGE}/best.ckpt", 1), (f"{STAGE}/best.ckpt", 5000)],
)
def test_a_damaged_run_is_refused_by_name(teacher, tutelage, tmp_path, damage, size):
    out = shutil.copytree(teacher, tmp_path / "run")
    os.truncate(out / damage, size)
    code, _, message = tutelage("train", "--out", out, "--resume")
    assert code == 2
    assert damage in message
    assert "damaged" in message
    assert "Make room" not in message


def test_a_stage_that_left_a_damaged_file_is_trained_again_without_its_folder(teacher, tutelage, tmp_path):
    out = shutil.copytree(teacher, tmp_path / "run")
    os.truncate(out / STAGE / "done.json", 0)
    assert f"Remove the folder {out / STAGE}" in tutelage("train", "--out", out, "--resume")[2]
    shutil.rmtree(out / STAGE)
    assert tutelage("train", "--out", out, "--resume")[0] == 0
    first, second = (load_file(run / "student" / "model.safetensors") for run in (teacher, out))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_export_of_a_damaged_model_is_refused_by_name(teacher, tutelage, tmp_path):
    out = shutil.copytree(teacher, tmp_path / "run")
    os.truncate(out / "student" / "config.json", 100)
    code, _, message = tutelage("export", out)
    assert code == 2
    assert f"{out / 'student' / 'config.json'} is damaged" in message


def test_an_interrupted_demo_goes_on(tutelage, tmp_path, monkeypatch):
    from tutelage.cli import demo

    done = []

    def train(*, out, resume=False, **_):
        done.append((out.name, resume))
        out.mkdir(parents=True, exist_ok=True)
        (out / "recipe.yaml").touch()
        if len(done) == 2:
            raise KeyboardInterrupt
        (out / "report.html").touch()

    monkeypatch.setattr(demo, "train", train)
    monkeypatch.setattr(demo, "distill", lambda *, out, **_: demo.Run(out, {}, None, None))
    code, _, message = tutelage("demo", "--out", tmp_path / "demo")
    assert code == 130
    assert f"tutelage demo --out {tmp_path / 'demo'} --resume" in message
    assert tutelage("demo", "--out", tmp_path / "demo")[0] == 2
    assert tutelage("demo", "--out", tmp_path / "demo", "--resume")[0] == 0
    assert done == [("resnet32", False), ("wrn_16_2", False), ("wrn_16_2", True), ("vgg8", False)]


def test_the_exported_onnx_agrees_with_the_student(whole, tutelage):
    code, printed, message = tutelage("export", whole, "--json")
    assert code == 0, message
    assert json.loads(printed)
    assert (whole / "export" / "model.onnx").exists()
    assert (whole / "export" / "parity.json").exists()


def test_the_exported_int8_file_is_held_to_the_score_of_the_student(whole, tutelage):
    code, printed, message = tutelage("export", whole, "--format", "int8", "--most-lost", "0.05", "--json")
    assert code == 0, message
    parity = json.loads(printed)
    told = json.loads((whole / "result.json").read_text())
    assert parity["scores"]["model"] == pytest.approx(told["student"]["validation"], abs=0.02)  # there in bf16
    assert parity["scores"]["file"] >= parity["scores"]["model"] - 0.05
    assert (whole / "export" / "model_int8.onnx").stat().st_size < (whole / "export" / "model.onnx").stat().st_size
    code, _, message = tutelage("export", whole, "--format", "int8", "--most-lost", "-1")
    assert code == 2
    assert "--most-lost: expected 0 or more" in message


def test_evaluate_gives_the_test_score_of_the_result(whole, tutelage):
    code, printed, message = tutelage("evaluate", whole, "--data", "digits", "--json")
    assert code == 0, message
    expected = json.loads((whole / "result.json").read_text())["student"]["test"]
    assert json.loads(printed)["accuracy"] == pytest.approx(expected, abs=1e-6)
    cut = "no test split found: 359 samples were cut from the training set."
    assert cut in message
    assert cut in json.loads(printed)["notes"]


def test_evaluate_uses_the_cut_of_the_run_unless_told_otherwise(tutelage, tmp_path):
    options = ["--set", "data.seed=3", "--set", "data.test=0.3", "--set", "train.epochs=1"]
    given = ["train", "--model", "cifar/resnet8", "--data", "digits", "--out", tmp_path / "run", *options]
    assert tutelage(*given)[0] == 0
    expected = json.loads((tmp_path / "run" / "result.json").read_text())["student"]["test"]
    code, printed, message = tutelage("evaluate", tmp_path / "run", "--data", "digits", "--json")
    assert code == 0, message
    assert json.loads(printed)["samples"] == 539
    assert json.loads(printed)["accuracy"] == pytest.approx(expected, abs=1e-6)
    told = ["--set", "data.test=0.2", "--json"]
    assert json.loads(tutelage("evaluate", tmp_path / "run", "--data", "digits", *told)[1])["samples"] == 359
    assert tutelage("evaluate", tmp_path / "run", "--data", "digits", "--set", "train.epochs=2")[0] == 2


def test_a_model_without_weights_is_called_untrained(tutelage):
    code, _, message = tutelage("evaluate", "cifar/resnet8", "--data", "digits")
    assert code == 0
    assert "untrained" in message


def test_check_takes_the_arguments_of_distill(teacher, tutelage, tmp_path):
    given = ["--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits", "--seeds", "3"]
    assert tutelage("check", *given, "--no-baseline", "--out", tmp_path / "new")[0] == 0
    assert not (tmp_path / "new").exists()
    assert "finished run" in tutelage("check", *given, "--out", teacher)[2]


def test_a_dry_run_prints_the_pairing_and_writes_nothing(teacher, tutelage, tmp_path):
    code, printed, message = tutelage(*job(teacher, tmp_path / "dry"), "--dry-run", "--json")
    assert code == 0
    assert "linear:input" in message
    found = json.loads(printed)
    assert set(found) == {"data", "notes", "teachers", "pairing", "temperatures", "recipe"}
    assert {row["path"] for row in found["pairing"]} == {"logits", "pooled", "contrast"}
    assert not (tmp_path / "dry").exists()


def test_check_scores_the_teachers_and_trains_nothing(teacher, tutelage):
    given = ["--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits", "--json"]
    code, printed, _ = tutelage("check", *given)
    assert code == 0
    found = json.loads(printed)
    assert found["teachers"]["big"]["validation"] > 0.5
    assert {row["path"] for row in found["pairing"]} == {"logits", *(f"attention_layer{n}" for n in (1, 2, 3))}
    assert {row["teacher"] for row in found["pairing"]} == {"(output)", *(f"layer{n}:rms" for n in (1, 2, 3))}


def test_a_store_keeps_what_the_default_asks_of_a_teacher(teacher, tutelage, tmp_path):
    given = ["--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits", "--json"]
    code, printed, message = tutelage("cache", *given, "--store", tmp_path / "store", "--set", "data.views=1")
    assert code == 0, message
    assert set(json.loads(printed)["teachers"]["big"]["taps"]) == {"", *(f"layer{n}:rms" for n in (1, 2, 3))}


def test_inspect_lists_taps_with_shapes_and_strides(tutelage):
    code, printed, _ = tutelage("inspect", "cifar/resnet8", "--input", "3x32x32", "--json")
    assert code == 0
    rows = {row["tap"]: row for row in json.loads(printed)}
    assert rows["layer3"]["shape"] == [64, 8, 8]
    assert rows["layer3"]["stride"] == 4


def test_inspect_knows_the_pictures_and_classes_of_a_run(teacher, tutelage):
    rows = {row["tap"]: row for row in json.loads(tutelage("inspect", teacher, "--json")[1])}
    assert rows["layer1"]["shape"] == [16, 8, 8]
    assert rows["linear"]["shape"] == [10]


@pytest.mark.parametrize("arguments", [("doctor",), ("report", "RUN")])
def test_json_is_all_that_is_on_standard_output(whole, tutelage, arguments):
    code, printed, _ = tutelage(*(whole if word == "RUN" else word for word in arguments), "--json")
    assert code == 0
    assert json.loads(printed)


def test_a_reader_that_has_read_enough_is_no_defect():
    with subprocess.Popen(
        [sys.executable, "-m", "tutelage", "list", "losses"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        message = process.stderr.read()
    assert (process.returncode, message) == (0, b"")


@pytest.mark.parametrize("kind", ["losses", "weightings", "schemes", "connectors", "tasks", "models", "data"])
def test_list_names_the_parts_with_a_line_about_each(tutelage, kind):
    code, printed, _ = tutelage("list", kind, "--json")
    assert code == 0
    found = json.loads(printed)
    assert found
    assert kind == "models" or all(found.values())


def test_several_seeds_enter_the_interval(teacher, tutelage, tmp_path):
    options = ["--seeds", "2", "--set", "data.limit=128", "--set", "data.batch_size=64", "--set", "train.epochs=1"]
    given = ["--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits"]
    code, printed, message = tutelage("distill", *given, "--out", tmp_path / "two", *options, "--json")
    assert code == 0, message
    assert json.loads(printed)["seeds"] == 2
    seeds = json.loads((tmp_path / "two" / "evaluation.json").read_text())["seeds"]
    assert [line["seed"] for line in seeds] == [0, 1]
    result = json.loads(printed)
    for name in ("student", "baseline"):
        card = (tmp_path / "two" / name / "README.md").read_text()
        mean = f"test accuracy: {result[name]['test']:.4f}; validation accuracy: {result[name]['validation']:.4f}"
        assert f"- test accuracy: {seeds[0][name]:.4f} (this model, of seed 0)\n- mean over 2 seeds: {mean}\n" in card
    assert (
        f"scores are means over 2 seeds; student/ holds the model of seed 0: test {seeds[0]['student']:.4f}" in message
    )
    own = json.loads(tutelage("evaluate", tmp_path / "two", "--data", "digits", "--json")[1])
    assert f"{own['accuracy']:.4f}" == f"{seeds[0]['student']:.4f}"


def test_the_card_of_a_single_seed_gives_its_scores_alone(whole):
    student = json.loads((whole / "result.json").read_text())["student"]
    card = (whole / "student" / "README.md").read_text()
    assert f"- test accuracy: {student['test']:.4f}; validation accuracy: {student['validation']:.4f}\n" in card
    assert "mean over" not in card


def test_from_python_a_live_module_and_a_data_set_of_ones_own(teacher, tmp_path):
    import tutelage as tu

    digits = tu.data.open_data("digits")
    own = [(digits.train.gather(torch.tensor([i]))[0], int(digits.train.labels[i])) for i in range(300)]

    class Own(torch.utils.data.Dataset):
        def __len__(self):
            return len(own)

        def __getitem__(self, i):
            return own[i]

    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    run = tu.distill(
        student=student,
        teachers={"big": str(teacher)},
        data=Own(),
        out=tmp_path / "own",
        train={"epochs": 2},
        assignments=["data.batch_size=32"],
        paths=["logits"],
    )
    assert run.verdict in ("better", "no difference", "worse")
    assert run.student(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_run_on_data_from_python_is_exported_on_noise_and_says_so(tutelage, tmp_path):
    import tutelage as tu

    pictures, labels = torch.rand(120, 1, 8, 8), torch.arange(120) % 3
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(pictures, labels), batch_size=5)
    options = {"epochs": 1}
    tu.train(model="cifar/resnet8", data=loader, out=tmp_path / "own", train=options, assignments=["data.batch_size=8"])
    notes = json.loads((tmp_path / "own" / "manifest.json").read_text())["notes"]
    assert "of the train loader its data set is taken: batches and order are ours." in notes
    code, _, message = tutelage("export", tmp_path / "own", "--format", "pt2")
    assert code == 0, message
    assert "noise" in message
    assert (tmp_path / "own" / "export" / "model.pt2").exists()
    code, _, message = tutelage("export", tmp_path / "own", "--format", "int8")
    assert code == 2
    assert "int8 takes its ranges from the run's training pictures" in message


def test_without_a_label_teachers_teach_and_the_verdict_is_left_out(teacher, tutelage, tmp_path):
    given = ["distill", "--student", "cifar/resnet8", "--teacher", f"big={teacher}", "--data", "digits", "--json"]
    options = ["--set", "data.labels=0", "--set", "data.limit=256", "--set", "train.epochs=1"]
    code, printed, message = tutelage(*given, "--out", tmp_path / "unlabelled", *options)
    assert code == 0, message
    assert "no baseline" in message
    result = json.loads(printed)
    assert (result["verdict"], result["baseline"], result["shipped"]) == (None, None, "student")


def test_help_names_every_command_and_no_other():
    done = subprocess.run([sys.executable, "-m", "tutelage", "--help"], capture_output=True, text=True, check=True)
    shown = re.findall(r"^  (\w+)  ", done.stdout.partition("Commands:")[2], re.MULTILINE)
    named = "demo distill bench train check cache inspect evaluate export report cite list doctor"
    assert sorted(shown) == sorted(named.split())
    assert "--debug" in done.stdout


@pytest.mark.parametrize("arguments", [["--debug", "list", "lossess"], ["list", "lossess", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(tutelage, arguments):
    code, _, message = tutelage(*arguments)
    assert code == 2
    assert "Traceback" in message
    assert "close: losses" in message
