"""The weights room: every file kind in and out, and every broken file refused in one line.

Round trips compare bit for bit. `fixtures/weights` was written by transformers 5.23.0 (a random
XLMRobertaForMaskedLM), so the names are checked without transformers too; with transformers and
safetensors installed the exports and the verdicts on mutated files are compared with theirs.
"""

import argparse
import json
import os
import pickle
import random
import re
import shutil
import struct
import zipfile
from collections import OrderedDict

import pytest
import sentencepiece
import torch

import weights
from conftest import ROOT
from model import Config, Encoder, make_head
from files import UserError

FIXTURE = ROOT / "tests/fixtures/weights"
SP = FIXTURE / weights.TOKENIZER
CONFIG = Config(vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32,
                max_positions=20)
KINDS = ["classification", "multiple_choice", "span", "tagging", "retrieval", "mlm"]
LABELS = {"classification": ("yes", "no", "maybe"), "tagging": ("A", "B", "C")}


# ------------------------------------------------------------------------ files to load


def randomised(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator)
            for name, tensor in module.state_dict().items()}


ENCODER = randomised(Encoder(CONFIG))


def head_of(kind):
    return randomised(make_head(kind, CONFIG, 3, seed=0), seed=1)


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder with a masked-LM head."""
    export(tmp_path / "hf", "mlm")
    return tmp_path / "hf"


def export(path, kind):
    weights.export_hf(path, CONFIG, ENCODER, kind, head_of(kind), LABELS.get(kind, ()), SP)


def repack(folder, change=dict, save=None, name="model.safetensors"):
    """Replace the folder's weights by change(state), written by `save` under `name`."""
    old = folder / "model.safetensors"
    state = change({k: v.clone() for k, v in weights.read_safetensors(old).items()})
    old.unlink()
    (save or (lambda s, path: weights.write_safetensors(path, s)))(state, folder / name)


def save_zip(state, path):
    torch.save(OrderedDict(state), path)


def save_legacy(state, path):
    torch.save(OrderedDict(state), path, _use_new_zipfile_serialization=False)


def save_shards(state, path, write):
    """Two shards and their index beside `path`."""
    names = sorted(state)
    places = {name: f"shard-{i % 2 + 1}-of-2{path.suffix}" for i, name in enumerate(names)}
    for shard in set(places.values()):
        write({name: state[name] for name in names if places[name] == shard}, path.parent / shard)
    total = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (path.parent / f"{path.name}.index.json").write_text(json.dumps(index))


def write_plain(state, path):
    weights.write_safetensors(path, state)


def fairseq_names(state, prefix="decoder.", stacked=False, norm="emb_layer_norm"):
    """Hugging Face's names -> fairseq's, after transformers' conversion script."""
    pairs = [(r"roberta\.embeddings\.word_embeddings", "sentence_encoder.embed_tokens"),
             (r"roberta\.embeddings\.position_embeddings", "sentence_encoder.embed_positions"),
             (r"roberta\.embeddings\.LayerNorm", f"sentence_encoder.{norm}"),
             (r"roberta\.encoder\.layer\.(\d+)\.", r"sentence_encoder.layers.\1."),
             (r"attention\.self\.(q|k|v)\w+\.", r"self_attn.\1_proj."),
             (r"attention\.output\.dense", "self_attn.out_proj"),
             (r"attention\.output\.LayerNorm", "self_attn_layer_norm"),
             (r"intermediate\.dense", "fc1"), (r"(layers\.\d+)\.output\.dense", r"\1.fc2"),
             (r"(layers\.\d+)\.output\.LayerNorm", r"\1.final_layer_norm")]
    out = {}
    for name, tensor in state.items():
        for pattern, new in pairs:
            name = re.sub(pattern, new, name)
        if "token_type" not in name:
            out[prefix + name] = tensor
    for layer in range(CONFIG.num_layers if stacked else 0):
        base = f"{prefix}sentence_encoder.layers.{layer}.self_attn."
        for part in ("weight", "bias"):
            out[f"{base}in_proj_{part}"] = torch.cat(
                [out.pop(f"{base}{letter}_proj.{part}") for letter in "qkv"])
    out[f"{prefix}lm_head.weight"] = out[f"{prefix}sentence_encoder.embed_tokens.weight"]
    return out


def make_archive(path, change=dict, legacy=True, args=None, **spelling):
    """A fairseq archive folder as of 2019 (legacy pickle) or later."""
    export(path, "mlm")
    state = change(fairseq_names(weights.read_safetensors(path / "model.safetensors"), **spelling))
    (path / "model.safetensors").unlink()
    (path / "config.json").unlink()
    (path / "tokenizer_config.json").unlink()
    args = args or argparse.Namespace(arch="roberta_large", encoder_attention_heads=2,
                                      activation_fn="gelu")
    content = {"args": args, "model": state, "optimizer_history": [{"num_updates": 1}],
               "extra_state": {"epoch": 1, "val_loss": None}}
    torch.save(content, path / "model.pt", _use_new_zipfile_serialization=not legacy)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(SP))
    lines = [f"{pieces.id_to_piece(i)} {100 - i}\n" for i in range(3, len(pieces))]
    (path / "dict.txt").write_text("".join(lines), encoding="utf-8")
    return path


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32 and tensor.is_contiguous()
        assert torch.equal(tensor, expected[name]), name


def refused(pattern, call, *args):
    """The one-line message of the UserError that this call must raise."""
    with pytest.raises(UserError, match=pattern) as caught:
        call(*args)
    assert len(str(caught.value)) <= 300 and "\n" not in str(caught.value)
    return str(caught.value)


# --------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_export_and_load_are_bit_identical(tmp_path, kind):
    if kind:
        export(tmp_path, kind)
        assert_same(weights.load_head(tmp_path, kind), head_of(kind))
    else:
        weights.export_hf(tmp_path, CONFIG, ENCODER, tokenizer=SP)
    config, encoder, tokenizer, head = weights.load_encoder(tmp_path)
    assert config == CONFIG
    assert_same(encoder, ENCODER)
    assert_same(head, head_of("mlm") if kind == "mlm" else {})
    assert tokenizer.read_bytes() == SP.read_bytes()
    written = json.loads((tmp_path / "config.json").read_text())
    labels = {str(i): name for i, name in enumerate(LABELS.get(kind, ()))}
    assert written.get("id2label", {}) == labels
    assert not list(tmp_path.glob("*.part"))


def test_kinds_are_those_of_the_model_room():
    import model
    assert set(weights.HEADS) == set(model.HEADS) == set(KINDS)


def test_a_folder_that_transformers_wrote():
    raw = weights.read_safetensors(FIXTURE / "model.safetensors")
    config, encoder, _, head = weights.load_encoder(FIXTURE)
    assert config == CONFIG
    assert set(encoder) == set(ENCODER) and set(head) == set(head_of("mlm"))
    for ours, theirs in {
            "tokens.weight": "embeddings.word_embeddings.weight",
            "types.weight": "embeddings.token_type_embeddings.weight",
            "norm.bias": "embeddings.LayerNorm.bias",
            "layers.1.value.bias": "encoder.layer.1.attention.self.value.bias",
            "layers.0.out.weight": "encoder.layer.0.attention.output.dense.weight",
            "layers.0.attention_norm.bias": "encoder.layer.0.attention.output.LayerNorm.bias",
            "layers.1.up.weight": "encoder.layer.1.intermediate.dense.weight",
            "layers.1.down.weight": "encoder.layer.1.output.dense.weight",
            "layers.1.norm.weight": "encoder.layer.1.output.LayerNorm.weight"}.items():
        assert torch.equal(encoder[ours], raw[f"roberta.{theirs}"])
    assert torch.equal(head["norm.weight"], raw["lm_head.layer_norm.weight"])


def without_prefix(state):
    return {name.removeprefix("roberta."): tensor for name, tensor in state.items()}


def with_old_extras(state):
    """What files of 2019 to 2021 carry beside the model."""
    return state | {"roberta.embeddings.position_ids": torch.arange(20)[None],
                    "roberta.pooler.dense.weight": torch.randn(16, 16),
                    "lm_head.decoder.weight": state["roberta.embeddings.word_embeddings.weight"],
                    "lm_head.decoder.bias": state["lm_head.bias"]}


@pytest.mark.parametrize("change, save, name", [
    (without_prefix, write_plain, "model.safetensors"),
    (dict, lambda s, p: save_shards(s, p, write_plain), "model.safetensors"),
    (dict, save_zip, "pytorch_model.bin"),
    (dict, save_legacy, "pytorch_model.bin"),
    (dict, lambda s, p: save_shards(s, p, save_zip), "pytorch_model.bin"),
    (with_old_extras, save_zip, "pytorch_model.bin"),
    (with_old_extras, save_legacy, "pytorch_model.bin"),
    (lambda s: {n: torch.nn.Parameter(t) for n, t in s.items()}, save_zip, "pytorch_model.bin"),
], ids=["unprefixed", "shards", "bin", "legacy", "bin-shards", "extras", "legacy-extras", "params"])
def test_every_form_of_a_hugging_face_folder(folder, change, save, name):
    repack(folder, change, save, name)
    config, encoder, _, head = weights.load_encoder(folder)
    assert config == CONFIG
    assert_same(encoder, ENCODER)
    assert_same(head, head_of("mlm"))


@pytest.mark.parametrize("spelling", [
    dict(prefix="decoder.", stacked=True), dict(prefix="decoder.", legacy=False),
    dict(prefix="encoder.", stacked=True, norm="layernorm_embedding", legacy=False),
    dict(prefix="encoder.", norm="layernorm_embedding")])
def test_every_form_of_a_fairseq_archive(tmp_path, spelling):
    config, encoder, tokenizer, head = weights.load_encoder(make_archive(tmp_path, **spelling))
    assert config == CONFIG
    assert_same(encoder, ENCODER | {"types.weight": torch.zeros(1, 16)})
    assert_same(head, head_of("mlm"))
    assert tokenizer == tmp_path / weights.TOKENIZER


def test_fairseq_leftovers_are_named_and_heads_default_to_width_64(tmp_path, capsys):
    def change(state):
        return state | {"decoder.version": torch.ones(1),
                        "classification_heads.mnli.dense.weight": torch.ones(2, 2),
                        "decoder.sentence_encoder.embed_positions._float_tensor": torch.ones(1)}
    make_archive(tmp_path, change, args=argparse.Namespace(no_epoch_checkpoints=True))
    assert weights.load_encoder(tmp_path)[0].num_heads == 1
    warning = capsys.readouterr().err
    assert "classification_heads.mnli.dense.weight" in warning and "version" in warning


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("save, name", [(write_plain, "model.safetensors"),
                                        (save_zip, "pytorch_model.bin")])
def test_other_precisions_are_cast(folder, dtype, save, name, capsys):
    repack(folder, lambda s: {n: t.to(dtype) for n, t in s.items()}, save, name)
    _, encoder, _, _ = weights.load_encoder(folder)
    assert_same(encoder, {n: t.to(dtype).float() for n, t in ENCODER.items()})
    assert ("cast to float32" in capsys.readouterr().err) == (dtype != torch.float64)


def test_tensors_are_private_and_writable(folder):
    before = (folder / "model.safetensors").read_bytes()
    _, encoder, _, _ = weights.load_encoder(folder)
    for tensor in encoder.values():
        tensor.add_(1)
    assert (folder / "model.safetensors").read_bytes() == before
    assert torch.equal(encoder["tokens.weight"], ENCODER["tokens.weight"] + 1)


def test_a_folder_may_be_overwritten_while_its_tensors_are_in_use(folder):
    config, encoder, tokenizer, _ = weights.load_encoder(folder)
    weights.export_hf(folder, config, encoder, tokenizer=tokenizer)
    assert_same(weights.load_encoder(folder)[1], ENCODER)
    assert_same(encoder, ENCODER)


STATE = {"f32": torch.randn(3, 4), "f64": torch.randn(2, dtype=torch.float64), "scalar":
         torch.tensor(7), "i32": torch.arange(5, dtype=torch.int32), "empty": torch.empty(0, 3),
         "bf16": torch.randn(3).bfloat16(), "f16": torch.randn(1, 1).half(), "bytes":
         torch.arange(7, dtype=torch.uint8), "mask": torch.tensor([True, False]),
         "strided": torch.randn(4, 3).T, "\u00e9 \u4f60": torch.ones(1)}


def test_safetensors_round_trip_of_every_dtype(tmp_path):
    path = tmp_path / "state.safetensors"
    weights.write_safetensors(path, STATE)
    first = path.read_bytes()
    found = weights.read_safetensors(path)
    assert found.keys() == STATE.keys()
    for name, tensor in found.items():
        assert tensor.dtype == STATE[name].dtype and torch.equal(tensor, STATE[name]), name
    weights.write_safetensors(path, dict(reversed(found.items())))
    assert path.read_bytes() == first
    assert int.from_bytes(first[:8], "little") % 8 == 0


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    weights.write_safetensors(path, {"a": torch.ones(3)})
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="space"):
        weights.write_safetensors(path, {"a": torch.zeros(3)})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["state.safetensors"]


# -------------------------------------------------------------------- broken safetensors


def craft(header, data=b"\0" * 8, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


GOOD = {
    "plain": craft({"a": entry()}),
    "two": craft({"b": entry(shape=[1], offsets=(4, 8)), "a": entry(shape=[1], offsets=(0, 4))}),
    "no tensors": craft({}, b""),
    "metadata": craft({"__metadata__": {"format": "pt"}, "a": entry()}),
    "spaces after": craft(json.dumps({"a": entry()}).encode() + b"   "),
    "empty tensor": craft({"a": entry(), "b": entry(shape=[0], offsets=(8, 8))}),
    "rank 0": craft({"a": entry(shape=[], offsets=(0, 4))}, b"\0" * 4),
    "odd header": craft(json.dumps({"a": entry()}).encode() + b" " * 3),
}
BAD = {
    "nothing": b"", "seven bytes": b"\0" * 7, "no header": struct.pack("<Q", 0),
    "header longer than file": craft({"a": entry()}, length=10 ** 6),
    "header bomb": craft({"a": entry()}, length=2 ** 63),
    "header over the limit": craft(b"{" + b" " * 10_000_001 + b"}", b""),
    "array": craft(b"[]", b""), "text": craft(b'"abc"', b""), "not JSON": craft(b"{abc}", b""),
    "not UTF-8": craft(b'{"\xff": 1}', b""), "BOM": craft(b"\xef\xbb\xbf{}", b""),
    "two values": craft(b"{} {}", b""), "entry is a list": craft({"a": []}),
    "missing field": craft({"a": {"dtype": "F32", "shape": [2]}}),
    "unknown dtype": craft({"a": entry("F33")}), "dtype a number": craft({"a": entry(4)}),
    "dtype a list": craft({"a": entry(["F32"])}), "shape a number": craft(
        {"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}),
    "shape a float": craft({"a": entry(shape=[2.0])}), "shape true": craft(
        {"a": entry(shape=[True], offsets=(0, 4))}, b"\0" * 4),
    "negative": craft({"a": entry(shape=[-2])}), "two negatives": craft(
        {"a": entry(shape=[-1, -2])}),
    "three offsets": craft({"a": entry(offsets=(0, 8, 8))}),
    "offsets reversed": craft({"a": entry(offsets=(8, 0))}),
    "negative offset": craft({"a": entry(offsets=(-8, 0))}),
    "offset a float": craft({"a": entry(offsets=(0, 8.0))}),
    "offset a text": craft({"a": entry(offsets=("0", "8"))}),
    "NaN": craft(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'),
    "infinity": craft(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}'),
    "too few bytes": craft({"a": entry(shape=[3])}),
    "too many bytes": craft({"a": entry(shape=[1])}),
    "beyond the file": craft({"a": entry(shape=[4], offsets=(0, 16))}),
    "data after": craft({"a": entry()}, b"\0" * 9),
    "overlap": craft({"a": entry(), "b": entry(shape=[1], offsets=(4, 8))}),
    "same bytes": craft({"a": entry(), "b": entry()}),
    "hole": craft({"a": entry(shape=[1], offsets=(0, 4)), "b": entry(shape=[1], offsets=(8, 12))},
                  b"\0" * 12),
    "hole at the start": craft({"a": entry(shape=[1], offsets=(4, 8))}),
    "overflow": craft({"a": entry(shape=[2 ** 32, 2 ** 32, 4], offsets=(0, 0))}, b""),
    "overflow to fit": craft({"a": entry(shape=[2 ** 62, 2], offsets=(0, 8))}),
    "huge empty": craft({"a": entry(shape=[0, 2 ** 62, 2 ** 62], offsets=(0, 0))}, b""),
    "huge integer": craft(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],'
                          b'"data_offsets":[0,8]}}'),
    "depth bomb": craft(b'{"a":' + b"[" * 100_000, b""),
    "depth bomb, closed": craft(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
    "metadata of numbers": craft({"__metadata__": {"a": 1}}, b""),
    "metadata a list": craft({"__metadata__": []}, b""),
    "metadata null": craft({"__metadata__": None}, b""),
    "half surrogate": craft(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    "too many tensors": craft({f"t{i}": entry(shape=[0], offsets=(0, 0)) for i in range(10_001)},
                              b""),
    # The library 0.8.0 lets these three pass.
    "name twice": craft(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
                        b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    "extra field": craft({"a": entry(note="x")}),
    "space before": craft(b" " + json.dumps({"a": entry()}).encode()),
}


@pytest.mark.parametrize("name", GOOD)
def test_sound_safetensors(tmp_path, name):
    path = tmp_path / "x.safetensors"
    path.write_bytes(GOOD[name])
    for tensor in weights.read_safetensors(path).values():
        assert tensor.dtype == torch.float32 and not tensor.any()


@pytest.mark.parametrize("name", BAD)
def test_broken_safetensors_are_refused(tmp_path, name):
    path = tmp_path / "x.safetensors"
    path.write_bytes(BAD[name])
    message = refused("x.safetensors", weights.read_safetensors, path)
    assert message.startswith(str(path))


def test_truncated_safetensors_say_how_many_bytes(tmp_path, folder):
    whole = (folder / "model.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    start = 8 + int.from_bytes(whole[:8], "little")
    cuts = [*range(0, len(whole), 64), *random.Random(0).sample(range(len(whole)), 50)]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        message = refused(None, weights.read_safetensors, path)
        if cut > start:
            assert f"expected {len(whole)} bytes, found {cut}" in message


NASTY = [b"null", b"true", b"-1", b"1e999", b"NaN", b"{}", b"[[[[", b'"\\ud800"', b"\xff", b"\0",
         b"18446744073709551616", b"0", b"{", b"}", b",", b'"F64"', b'"BF16"', b" "]


def mutants(original: bytes, count: int, seed: int, span=None):
    """Seeded bit flips, cuts, insertions and splices within the first `span` bytes."""
    rng = random.Random(seed)
    for _ in range(count):
        raw = bytearray(original)
        for _ in range(rng.choice((1, 1, 2, 5))):
            place = rng.randrange(min(span or len(raw), len(raw) or 1) or 1)
            match rng.randrange(5):
                case 0 if raw:
                    raw[min(place, len(raw) - 1)] ^= 1 << rng.randrange(8)
                case 1:
                    raw[place:place + rng.randrange(1, 9)] = b""
                case 2:
                    raw[place:place] = rng.choice(NASTY)
                case 3:
                    nasty = rng.choice(NASTY)
                    raw[place:place + len(nasty)] = nasty
                case _:
                    other = rng.randrange(len(raw) or 1)
                    raw[place:place + 8] = raw[other:other + 8]
        yield bytes(raw)


def verdict(call, *args):
    """A result or None; any exception but UserError fails the test."""
    try:
        return call(*args)
    except UserError as error:
        assert len(str(error)) <= 300
        return None


def test_mutated_safetensors_give_a_result_or_a_user_error(tmp_path):
    path = tmp_path / "x.safetensors"
    weights.write_safetensors(path, STATE)
    whole = path.read_bytes()
    survived = 0
    for raw in mutants(whole, 1500, seed=1, span=700):
        path.write_bytes(raw)
        survived += verdict(weights.read_safetensors, path) is not None
    assert 10 < survived < 750


# ----------------------------------------------------------------- strangers and pickles


STRANGERS = {"an HTML page": b"<!DOCTYPE html><html><body>404</body></html>",
             "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
             "cut short": b"", "other kind": os.urandom(64)}


@pytest.mark.parametrize("name, read", [("model.safetensors", weights.read_safetensors),
                                        ("pytorch_model.bin", weights.read_pickle)])
def test_strangers_are_called_by_name(tmp_path, name, read):
    path = tmp_path / name
    refused("No such file", read, path)
    for what, raw in STRANGERS.items():
        path.write_bytes(raw)
        refused(what, read, path)
    path.unlink()
    path.mkdir()
    refused("directory", read, path)


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def evil_pickles(canary):
    """Pickles that would create a file, in several spellings."""
    touch = f"open({str(canary)!r}, 'w').close()"
    for protocol in (2, 4):
        yield pickle.dumps(Call(eval, touch), protocol)
        yield pickle.dumps(Call(exec, touch), protocol)
        yield pickle.dumps(Call(os.system, f"touch {canary}"), protocol)
        yield pickle.dumps({"model": {"a": [Call(eval, touch)]}}, protocol)
        yield pickle.dumps(Call(getattr, Call(__import__, "os"), "system"), protocol)
    yield b"\x80\x02(S'touch x'\nios\nsystem\n."                       # INST
    yield b"\x80\x02(cos\nsystem\nS'touch x'\no."                      # OBJ
    yield b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R."         # GLOBAL, REDUCE
    yield b"\x80\x02c__builtin__\neval\n(V1\ntR."                      # Python 2's name
    yield b"\x80\x02ctorch.hub\nload\n(V1\ntR."                        # torch, but no tensor
    yield b"\x80\x02cargparse\nFileType\n)R."                          # argparse, but no Namespace
    yield b"\x80\x02Pabc\n."                                           # PERSID
    yield b"\x80\x02\x82\x01."                                         # EXT1
    yield b"\x80\x02ccollections\nOrderedDict\n)R}X\x08\x00\x00\x00__init__cos\nsystem\nsb."


def zip_with(path, content, compression=zipfile.ZIP_STORED, extra=()):
    """A PyTorch archive made by hand: entries name -> bytes, `extra` pairs after them."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, raw in [*content.items(), *extra]:
            archive.writestr(name, raw)


def test_malicious_pickles_are_refused_and_never_run(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "pytorch_model.bin"
    corpus = list(evil_pickles(canary))
    assert len(corpus) >= 19
    for raw in corpus:
        zip_with(path, {"archive/data.pkl": raw, "archive/version": b"3\n"})
        message = refused("refused", weights.read_pickle, path)
        assert "its pickle wants" in message
        legacy = weights.LEGACY_MAGIC + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + raw
        path.write_bytes(legacy + pickle.dumps([], 2))
        refused("its pickle wants", weights.read_pickle, path)
        path.write_bytes(raw)    # a bare pickle
        refused("no weights", weights.read_pickle, path)
    assert not canary.exists()


def test_the_refusal_names_the_global(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    zip_with(path, {"a/data.pkl": pickle.dumps(Call(os.system, "true"), 2)})
    refused("posix system", weights.read_pickle, path)


def entries_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def archive(tmp_path):
    """A sound .bin and its entries."""
    path = tmp_path / "pytorch_model.bin"
    torch.save(OrderedDict(a=torch.ones(1000), b=torch.zeros(3)), path)
    return path, entries_of(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_dangerous_zip_archives_never_reach_torch(archive, monkeypatch):
    path, content = archive
    assert weights.read_pickle(path)["a"].sum() == 1000
    monkeypatch.setattr(torch, "load", lambda *args, **more: pytest.fail("reached torch.load"))
    pickled = next(name for name in content if name.endswith("data.pkl"))
    bomb = content | {pickled.replace("data.pkl", "data/0"): b"\0" * 50_000_000}
    zip_with(path, bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    refused("compressed", weights.read_pickle, path)
    for extra, why in [((pickled, content[pickled]), "twice"),
                       (("b/data.pkl", content[pickled]), "twice"),
                       (("../data/9", b"x"), "not PyTorch's"), (("/data/9", b"x"), "not PyTorch's"),
                       (("archive/code/x.py", b"x"), "not PyTorch's")]:
        zip_with(path, content, extra=[extra])
        refused(why, weights.read_pickle, path)
    zip_with(path, {name: raw for name, raw in content.items() if name != pickled})
    refused("twice", weights.read_pickle, path)


def test_flipped_bits_in_a_foreign_bin_are_found(archive, monkeypatch):
    path, _ = archive
    whole = path.read_bytes()
    place = whole.index(struct.pack("<f", 1) * 100) + 123
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1:])
    message = refused("CRC", weights.read_pickle, path)
    assert "data/0" in message
    monkeypatch.setattr(weights, "_scan_zip", lambda file, path: None)    # torch itself is blind
    assert not torch.equal(weights.read_pickle(path)["a"], torch.ones(1000))


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_truncated_and_mutated_pickle_files(tmp_path, archive):
    path, _ = archive
    legacy = tmp_path / "legacy.bin"
    save_legacy({"a": torch.ones(50), "b": torch.zeros(3)}, legacy)
    for source in (path, legacy):
        whole = source.read_bytes()
        for cut in range(0, len(whole), 64):
            path.write_bytes(whole[:cut])
            refused(None, weights.read_pickle, path)
        for raw in mutants(whole, 300, seed=2):
            path.write_bytes(raw)
            verdict(weights.read_pickle, path)


def test_tensors_must_hold_what_they_claim(folder):
    """A stride of 0 makes a small file look like a large tensor."""
    def change(state):
        return state | {"lm_head.decoder.weight": torch.zeros(1).expand(10 ** 9)}
    repack(folder, change, save_zip, "pytorch_model.bin")
    refused("cut short", weights.load_encoder, folder)


@pytest.mark.parametrize("state, why", [
    ([1], "list"), ({"a": 1}, "int"), ({1: torch.ones(1)}, "Tensor"), (torch.ones(1), "Tensor"),
    ({"a": {"b": torch.ones(1)}}, "dict")])
def test_pickles_that_are_no_state_dict(folder, state, why):
    repack(folder, lambda _: state, lambda s, path: torch.save(s, path), "pytorch_model.bin")
    refused(why, weights.load_encoder, folder)


def test_old_versions_refuse_the_risky_readers_only(tmp_path, folder, monkeypatch):
    make_archive(tmp_path / "fairseq")
    monkeypatch.setattr(sentencepiece, "__version__", "0.2.0")
    refused("sentencepiece 0.2.0", weights.load_encoder, tmp_path / "fairseq")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    refused("torch 2.9.1", weights.load_encoder, tmp_path / "fairseq")
    assert_same(weights.load_encoder(folder)[1], ENCODER)
    repack(folder, dict, save_zip, "pytorch_model.bin")
    refused("torch 2.9.1", weights.load_encoder, folder)


# ------------------------------------------------------------------------- wrong content


TABLE = "roberta.embeddings.word_embeddings.weight"
QUERY = "roberta.encoder.layer.1.attention.self.query.weight"


def edit(**changes):
    """A change of the state: name=None drops it, a function edits it, a tensor replaces it."""
    def change(state):
        for name, new in changes.items():
            old = state.pop(name, None)
            if new is not None:
                state[name] = new(old) if callable(new) else new
        return state
    return change


def set_value(value):
    def edit_tensor(tensor):
        tensor.view(-1)[-1] = value
        return tensor
    return edit_tensor


@pytest.mark.parametrize("change, why", [
    (edit(**{QUERY: None}), "1 tensors are missing: .'encoder.layer.1.attention.self.query.weight"),
    (edit(**{TABLE: None}), "missing.*word_embeddings"),
    (lambda s: {n.replace("roberta.", "xlm-roberta."): t for n, t in s.items()},
     "37 tensors are not XLM-R's: .'xlm-roberta.embeddings"),
    (edit(extra=torch.ones(1)), "1 tensors are not XLM-R's: .'extra'"),
    (edit(**{"roberta.encoder.layer.2.output.dense.bias": torch.ones(16)}), "layer.2"),
    (edit(**{"roberta.encoder.LayerNorm.weight": torch.ones(16)}), "encoder.LayerNorm"),
    (edit(**{QUERY: torch.ones(16, 17)}), r"query.weight.*\[16, 17\].*config.json.*\[16, 16\]"),
    (edit(**{TABLE: lambda t: t[:-1].clone()}), r"\[49, 16\], but config.json .*\[50, 16\]"),
    (edit(**{QUERY: torch.ones(256)}), r"\[256\]"),
    (edit(**{QUERY: torch.ones(16, 16, dtype=torch.int64)}), "int64"),
    (edit(**{QUERY: set_value(torch.nan)}), "query.weight holds NaN"),
    (edit(**{TABLE: set_value(torch.inf)}), "word_embeddings.weight holds NaN or infinity"),
    (edit(**{TABLE: set_value(-torch.inf)}), "infinity"),
    (edit(**{"lm_head.bias": set_value(torch.nan)}), "lm_head.bias holds NaN"),
    (edit(**{TABLE: torch.zeros(50, 16)}), "all zeros"),
    (edit(**{"lm_head.layer_norm.bias": None}), "missing: .'lm_head.layer_norm.bias"),
    (edit(**{TABLE.removeprefix("roberta."): torch.ones(50, 16)}), "with and without prefix"),
])
def test_wrong_tensors_are_named(folder, change, why):
    repack(folder, change)
    message = refused(why, weights.load_encoder, folder)
    assert message.startswith(str(folder / "model.safetensors"))


def test_large_finite_values_are_no_infinity(folder):
    """Their sum overflows, so the quick check alone would refuse them."""
    huge = torch.full((50, 16), 3e38)
    repack(folder, edit(**{TABLE: huge}))
    assert torch.equal(weights.load_encoder(folder)[1]["tokens.weight"], huge)


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    content |= changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("changes, why", [
    (dict(model_type="xlm-roberta-xl"),
     "model_type 'xlm-roberta-xl' is not supported, this program reads xlm-roberta"),
    (dict(model_type="bert"), "model_type 'bert' .* multilingual e5-small"),
    (dict(model_type="lilt"), "model_type 'lilt' is not supported"),
    (dict(model_type="deberta-v2"), "model_type 'deberta-v2' .* mDeBERTa"),
    (dict(model_type=None), "model_type"),
    (dict(hidden_act="relu"), "hidden_act 'relu'"), (dict(is_decoder=True), "is_decoder"),
    (dict(position_embedding_type="relative_key"), "position_embedding_type"),
    (dict(type_vocab_size=2), "type_vocab_size"), (dict(pad_token_id=0), "pad_token_id"),
    (dict(max_position_embeddings=512), r"position_embeddings.*\[20, 16\].*\[512, 16\]"),
    (dict(num_hidden_layers=1), "16 tensors are not XLM-R's.*layer.1"),
    (dict(num_hidden_layers=3), "16 tensors are missing.*layer.2"),
    (dict(num_hidden_layers=10 ** 9), "impossible sizes"),
    (dict(num_attention_heads=3), "impossible sizes"), (dict(num_attention_heads=0), "cannot be 0"),
    (dict(hidden_size="16"), "hidden_size cannot be '16'"), (dict(vocab_size=True), "be True"),
    (dict(hidden_size=-16), "cannot be -16"), (dict(vocab_size=50.0), "vocab_size"),
    (dict(layer_norm_eps="x"), "layer_norm_eps"), (dict(hidden_dropout_prob=1), "cannot be 1"),
    (dict(layer_norm_eps=[1]), "layer_norm_eps"), (dict(intermediate_size=33), r"\[33"),
])
def test_wrong_configs_are_explained(folder, changes, why):
    edit_json(folder / "config.json", **changes)
    refused(why, weights.load_encoder, folder)


def test_missing_fields_have_transformers_defaults_and_a_warning(folder, capsys):
    edit_json(folder / "config.json", layer_norm_eps=None, initializer_range=None)
    assert weights.load_encoder(folder)[0].layer_norm_eps == 1e-12
    warning = capsys.readouterr().err
    assert warning.startswith("warning: ") and "layer_norm_eps, initializer_range" in warning
    edit_json(folder / "config.json", vocab_size=None)
    refused(r"30522", weights.load_encoder, folder)


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b'{"model_type": "xlm-roberta"',
                                 b"[" * 100_000, b"<!DOCTYPE html>", b'{"a": NaN}', b"\xff"])
def test_unreadable_configs(folder, raw):
    (folder / "config.json").write_bytes(raw)
    refused("config.json", weights.load_encoder, folder)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", weights.TOKENIZER])
def test_missing_files(folder, missing):
    (folder / missing).unlink()
    refused("config.json|no weights here|copy the model's own", weights.load_encoder, folder)
    refused("config.json", weights.load_encoder, folder / "nowhere")


def shard_index(folder, change):
    repack(folder, dict, lambda s, p: save_shards(s, p, write_plain))
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rename_shard(name):
    def change(content):
        places = content["weight_map"]
        content["weight_map"] = {t: name if p.startswith("shard-1") else p
                                 for t, p in places.items()}
    return change


def drop_from_map(content):
    del content["weight_map"][TABLE]


def move_in_map(content):
    places = content["weight_map"]
    places[TABLE] = next(p for p in places.values() if p != places[TABLE])


@pytest.mark.parametrize("change, why", [
    (rename_shard("absent.safetensors"), "absent.safetensors.*No such file"),
    *[(rename_shard(name), "no plain file name") for name in
      ("../shard-1-of-2.safetensors", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "")],
    (drop_from_map, "1 tensors stand only in"), (move_in_map, "stand only in"),
    (lambda c: c["weight_map"].update(ghost="shard-1-of-2.safetensors"), "ghost"),
    (lambda c: c["metadata"].update(total_size=1), "wrong total_size .*found 1"),
    (lambda c: c["metadata"].update(total_size="big"), "wrong total_size"),
    (lambda c: c.update(metadata=[]), "broken index"),
    (lambda c: c.pop("weight_map"), "weight_map"),
    (lambda c: c.update(weight_map=[1]), "broken index"),
    (lambda c: c["weight_map"].update({TABLE: 3}), "broken index"),
])
def test_wrong_indexes(folder, change, why):
    shard_index(folder, change)
    refused(why, weights.load_encoder, folder)


def test_a_tensor_in_two_shards_is_refused(folder):
    shard_index(folder, lambda content: None)
    first = folder / "shard-1-of-2.safetensors"
    other = weights.read_safetensors(folder / "shard-2-of-2.safetensors")
    name, tensor = next(iter(other.items()))
    weights.write_safetensors(first, weights.read_safetensors(first) | {name: tensor})
    refused("stand only in shard-1", weights.load_encoder, folder)


def test_an_index_without_total_is_fine(folder):
    shard_index(folder, lambda content: content.pop("metadata"))
    assert_same(weights.load_encoder(folder)[1], ENCODER)


@pytest.mark.parametrize("change, why", [
    (lambda s: {n: t for n, t in s.items() if "embed_positions" not in n}, "embed_positions"),
    (lambda s: s | {"decoder.sentence_encoder.layer_norm.weight": torch.ones(16)}, "pre-norm"),
    (lambda s: s | {"decoder.sentence_encoder.layers.1.fc3.bias": torch.ones(16)}, "fc3"),
    (lambda s: {n: t for n, t in s.items() if "emb_layer_norm.bias" not in n}, "missing.*norm"),
    (lambda s: {n: t[:-1].clone() if "fc2.bias" in n else t for n, t in s.items()}, r"\[15\]"),
    (lambda s: {n: t[:-1].clone() if "in_proj" in n else t for n, t in s.items()}, r"\[15, 16\]"),
    (lambda s: {n: t.new_tensor(1) if "in_proj" in n else t for n, t in s.items()}, "chunk"),
    (lambda s: {n: t[0].clone() if "embed_tokens" in n else t for n, t in s.items()}, "XLM-R"),
    (lambda s: {}, "embed_tokens"), (lambda s: [1], "list"),
])
def test_wrong_fairseq_models(tmp_path, change, why):
    refused(why, weights.load_encoder, make_archive(tmp_path, change, stacked=True))


@pytest.mark.parametrize("args, why", [
    (dict(encoder_attention_heads=3), "impossible sizes"),
    (dict(encoder_attention_heads="2"), "impossible sizes"),
    (dict(encoder_attention_heads=0), "impossible sizes"),
    (dict(encoder_attention_heads=2, activation_fn="relu"), "gelu"),
])
def test_wrong_fairseq_arguments(tmp_path, args, why):
    make_archive(tmp_path, args=argparse.Namespace(**args))
    refused(why, weights.load_encoder, tmp_path)


class Meter:
    """Stands for the objects in fairseq's training checkpoints."""


def test_fairseq_training_checkpoints_are_refused(tmp_path):
    make_archive(tmp_path)
    torch.save({"model": {}, "extra_state": Meter()}, tmp_path / "model.pt",
               _use_new_zipfile_serialization=False)
    refused("GLOBAL .*Meter.*Convert it to safetensors", weights.load_encoder, tmp_path)


@pytest.mark.parametrize("change", [
    lambda lines: lines[1:], lambda lines: lines[:-1], lambda lines: lines + ["x 1\n"],
    lambda lines: [lines[1], lines[0], *lines[2:]], lambda lines: []])
def test_dict_and_tokenizer_must_list_the_same_pieces(tmp_path, change):
    make_archive(tmp_path)
    path = tmp_path / "dict.txt"
    path.write_text("".join(change(path.read_text().splitlines(True))))
    refused("dict.txt", weights.load_encoder, tmp_path)


def test_fairseq_archives_lack_nothing(tmp_path):
    for missing in ("dict.txt", weights.TOKENIZER):
        make_archive(tmp_path / missing)
        (tmp_path / missing / missing).unlink()
        refused(missing, weights.load_encoder, tmp_path / missing)
    make_archive(tmp_path / "corrupt")
    (tmp_path / "corrupt" / weights.TOKENIZER).write_bytes(b"\xff" * 50)
    refused("no SentencePiece model", weights.load_encoder, tmp_path / "corrupt")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "dict.txt"])
def test_mutated_text_files_give_a_result_or_a_user_error(tmp_path, name):
    if name == "dict.txt":
        make_archive(tmp_path)
    else:
        export(tmp_path, "mlm")
        shard_index(tmp_path, lambda content: None)
    whole = (tmp_path / name).read_bytes()
    for raw in mutants(whole, 120, seed=3):
        (tmp_path / name).write_bytes(raw)
        verdict(weights.load_encoder, tmp_path)


def test_heads_must_fit(folder):
    refused("missing: .'classifier.dense.weight", weights.load_head, folder, "classification")
    repack(folder, lambda s: s | {"classifier.weight": torch.ones(3, 16),
                                  "classifier.bias": torch.ones(4)})
    refused(r"classifier.weight has the shape \[3, 16\]", weights.load_head, folder, "tagging")
    with pytest.raises(AssertionError):
        weights.export_hf(folder, CONFIG, ENCODER | {"more": torch.ones(1)})
    with pytest.raises(AssertionError):
        weights.export_hf(folder, CONFIG, ENCODER, "tagging", head_of("tagging"), ("just one",))


# ------------------------------------------------------------------------ beside others


CLASSES = {kind: name for kind, (name, _) in weights.HEADS.items()}


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_transformers_opens_the_export(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    if kind:
        export(tmp_path, kind)
    else:
        weights.export_hf(tmp_path, CONFIG, ENCODER, tokenizer=SP)
    kept = transformers.AutoConfig.from_pretrained(tmp_path)
    assert kept.architectures == [CLASSES.get(kind, "XLMRobertaModel")]
    if kind in LABELS:
        assert tuple(kept.id2label.values()) == LABELS[kind]
    more = {"add_pooling_layer": False} if kind is None else {}
    model, info = getattr(transformers, kept.architectures[0]).from_pretrained(
        tmp_path, output_loading_info=True, **more)
    info = {key: list(value) for key, value in info.items()}
    assert info.pop("unexpected_keys") == (["logit_scale"] if kind == "retrieval" else [])
    assert not any(info.values()), info
    model.save_pretrained(tmp_path / "again")
    shutil.copy(SP, tmp_path / "again")
    config, encoder, _, _ = weights.load_encoder(tmp_path / "again")
    assert config == CONFIG
    assert_same(encoder, ENCODER)
    if kind and kind != "retrieval":
        assert_same(weights.load_head(tmp_path / "again", kind), head_of(kind))


def test_transformers_opens_the_exported_tokenizer(folder):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("google.protobuf")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(SP)).encode("the quick fox")
    assert theirs("the quick fox")["input_ids"] == [0, *(i + 1 for i in pieces), 2]
    assert theirs.mask_token_id == CONFIG.vocab_size - 1


def library_verdict(path):
    from safetensors.torch import load_file
    try:
        return load_file(path)
    except Exception:
        return None


def allowed_difference(raw):
    """Where we are stricter than the library, or know fewer dtypes, or neither can decide."""
    length = int.from_bytes(raw[:8], "little")
    header = raw[8:8 + length]
    if header[:1] != b"{" or length > weights.MAX_HEADER:
        return True
    twice = []

    def pairs_hook(pairs):
        twice.append(len(dict(pairs)) < len(pairs))
        return dict(pairs)
    content = json.loads(header, object_pairs_hook=pairs_hook)
    if content.get("__metadata__", {}) is None:
        return True
    entries = [e for name, e in content.items() if name != "__metadata__"]
    return (any(twice) or len(entries) > weights.MAX_TENSORS
            or any(size >= 2 ** 48 for e in entries for size in e["shape"])
            or any(e.keys() != {"dtype", "shape", "data_offsets"} for e in entries)
            or any(e["dtype"] not in weights.DTYPES or len(e["shape"]) > 8 for e in entries))


def test_the_librarys_verdict_on_broken_and_mutated_files_is_ours(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "x.safetensors"
    weights.write_safetensors(path, STATE)
    corpus = [*GOOD.values(), *BAD.values(), *mutants(path.read_bytes(), 1500, seed=4, span=700)]
    agreed = stricter = 0
    for raw in corpus:
        path.write_bytes(raw)
        ours, theirs = verdict(weights.read_safetensors, path), library_verdict(path)
        if ours is None and theirs is not None:
            assert allowed_difference(raw), raw[:300]
            stricter += 1
            continue
        assert (ours is None) == (theirs is None), raw[:300]
        agreed += 1
        for name, tensor in (ours or {}).items():
            assert tensor.dtype == theirs[name].dtype and tensor.shape == theirs[name].shape
            assert tensor.reshape(-1).view(torch.uint8).tolist() == \
                theirs[name].reshape(-1).view(torch.uint8).tolist()
    assert agreed > 20 * stricter


def test_our_bytes_are_the_librarys_bytes(tmp_path):
    library = pytest.importorskip("safetensors.torch")
    path = tmp_path / "x.safetensors"
    state = {name: tensor.contiguous() for name, tensor in STATE.items()}
    weights.write_safetensors(path, state)
    library.save_file(state, tmp_path / "y.safetensors", {"format": "pt"})
    assert path.read_bytes() == (tmp_path / "y.safetensors").read_bytes()
