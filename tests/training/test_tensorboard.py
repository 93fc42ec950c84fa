"""Scalars for TensorBoard: tags, and that a resumed training holds no step twice."""

import struct

import pytest

from mdm_jax.training.tensorboard import FOLDER, ScalarWriter, scalars


def line(step, stage=None):
    told = {} if stage is None else {"stage": stage}
    numbers = {"train_loss": 1.0 / step, "eval_accuracy": 0.5, "train_accuracy": None}
    return {"epoch": 1, **told, "step": step, **numbers, "seconds": 2.0 * step}


def test_tags_name_the_quantity_the_split_and_the_stage():
    assert dict(scalars(line(2))) == {
        "loss/train": 0.5,
        "accuracy/eval": 0.5,
        "seconds": 4.0,
    }
    assert [tag for tag, _ in scalars(line(2, "last layer"))] == [
        "loss/train/last_layer",
        "accuracy/eval/last_layer",
        "seconds/last_layer",
    ]


def test_a_training_that_resumes_holds_no_step_twice(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    first = ScalarWriter(tmp_path, [], 0.0)
    for step in (4, 8, 12):
        first.write(line(step))
    first.close()
    # its last checkpoint was of step 8
    again = ScalarWriter(tmp_path, [line(4), line(8)], 16.0)
    again.write(line(12))
    again.close()
    (file,) = (tmp_path / FOLDER).iterdir()
    data, steps, times = file.read_bytes(), [], []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        if any(value.tag == "loss/train" for value in event.summary.value):
            steps.append(event.step)
            times.append(event.wall_time)
    assert steps == [4, 8, 12]
    assert times[2] - times[0] == pytest.approx(16.0)
