"""The weights room: parameters in and out of files.

    load_encoder(folder)    <- Hugging Face folder: config.json, sentencepiece.bpe.model, and
                               model.safetensors | pytorch_model.bin | shards and index of either
                            <- fairseq archive: model.pt, dict.txt, sentencepiece.bpe.model
    export_hf(folder, ...)  -> Hugging Face folder that transformers opens; load_head reads its head

People fetch weights from mirrors, so every file is a stranger until it is checked; its faults are
UserErrors. Nothing is copied on the way in: tensors are private, writable views of mapped files.
"""

import argparse
import json
import math
import mmap
import os
import pickletools
import re
import sys
import zipfile
from contextlib import contextmanager
from itertools import chain, zip_longest
from pathlib import Path

import sentencepiece
import torch
from torch.torch_version import TorchVersion

from model import Config
from files import DECODER, STRANGERS, UserError, read_json, read_lines

TOKENIZER = "sentencepiece.bpe.model"

# --------------------------------------------------------------------------------- names
# Sizes: V vocabulary, P positions, H hidden, F feed-forward, C classes. "*" stands for weight and
# bias; a bias has the first of its weight's sizes.

OURS, HF, FAIRSEQ = range(3)
EMBEDDINGS = (
    # ours               Hugging Face, below "roberta."              fairseq                 sizes
    ("tokens.weight",    "embeddings.word_embeddings.weight",       "embed_tokens.weight",    "VH"),
    ("positions.weight", "embeddings.position_embeddings.weight",   "embed_positions.weight", "PH"),
    ("types.weight",     "embeddings.token_type_embeddings.weight", "types.weight",           "1H"),
    ("norm.*",           "embeddings.LayerNorm.*",                  "emb_layer_norm.*",       "H"),
)
LAYER = (    # below "layers.{}.", "encoder.layer.{}.", "layers.{}."
    ("query.*",          "attention.self.query.*",                  "self_attn.q_proj.*",     "HH"),
    ("key.*",            "attention.self.key.*",                    "self_attn.k_proj.*",     "HH"),
    ("value.*",          "attention.self.value.*",                  "self_attn.v_proj.*",     "HH"),
    ("out.*",            "attention.output.dense.*",                "self_attn.out_proj.*",   "HH"),
    ("attention_norm.*", "attention.output.LayerNorm.*",            "self_attn_layer_norm.*", "H"),
    ("up.*",             "intermediate.dense.*",                    "fc1.*",                  "FH"),
    ("down.*",           "output.dense.*",                          "fc2.*",                  "HF"),
    ("norm.*",           "output.LayerNorm.*",                      "final_layer_norm.*",     "H"),
)
ENCODER = EMBEDDINGS + tuple(("layers.{}." + ours, "encoder.layer.{}." + hf, "layers.{}." + fairseq,
                              sizes) for ours, hf, fairseq, sizes in LAYER)
# kind -> transformers' class, names of its head (no class of its has the scale of retrieval)
HEADS = {
    "classification": ("XLMRobertaForSequenceClassification", (
        ("dense.*", "classifier.dense.*", "HH"), ("out.*", "classifier.out_proj.*", "CH"))),
    "multiple_choice": ("XLMRobertaForMultipleChoice", (
        ("pooler.*", "pooler.dense.*", "HH"), ("out.*", "classifier.*", "1H"))),
    "span": ("XLMRobertaForQuestionAnswering", (("out.*", "qa_outputs.*", "2H"),)),
    "tagging": ("XLMRobertaForTokenClassification", (("out.*", "classifier.*", "CH"),)),
    "retrieval": ("XLMRobertaModel", (
        ("pooler.*", "pooler.dense.*", "HH"), ("scale", "logit_scale", ""))),
    "mlm": ("XLMRobertaForMaskedLM", (
        ("dense.*", "lm_head.dense.*", "HH"), ("norm.*", "lm_head.layer_norm.*", "H"),
        ("bias", "lm_head.bias", "V"))),
}
LEFTOVERS = re.compile(    # what a file may hold beyond the encoder
    r"(pooler|lm_head|classifier|qa_outputs|classification_heads)\..*|logit_scale"
    r"|embeddings\.position_ids|(.*\.)?version|.*_float_tensor")

FIELDS = (    # ours, transformers', transformers' value where config.json has none (not XLM-R's!)
    ("vocab_size", "vocab_size", 30522),
    ("hidden_size", "hidden_size", 768),
    ("num_layers", "num_hidden_layers", 12),
    ("num_heads", "num_attention_heads", 12),
    ("intermediate_size", "intermediate_size", 3072),
    ("max_positions", "max_position_embeddings", 512),
    ("layer_norm_eps", "layer_norm_eps", 1e-12),
    ("dropout", "hidden_dropout_prob", 0.1),
    ("attention_dropout", "attention_probs_dropout_prob", 0.1),
    ("initializer_range", "initializer_range", 0.02),
)
# What every plain XLM-R has in common: any other value means another network.
FIXED = {"model_type": "xlm-roberta", "hidden_act": "gelu", "position_embedding_type": "absolute",
         "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
         "is_decoder": False, "add_cross_attention": False, "tie_word_embeddings": True}
RELATIVES = "XL, XXL, LiLT, mDeBERTa, multilingual e5-small and MiniLM are other networks"


def _expand(table, column: int, config: Config, classes: int = 0) -> list[tuple]:
    """(our name, the file's name, shape) of every tensor of a table."""
    sizes = {"V": config.vocab_size, "P": config.max_positions, "H": config.hidden_size,
             "F": config.intermediate_size, "C": classes, "1": 1, "2": 2}
    rows = []
    for ours, theirs, letters in ((row[OURS], row[column], row[-1]) for row in table):
        for layer in range(config.num_layers if "{}" in ours else 1):
            for part in ("weight", "bias") if "*" in ours else ("",):
                shape = tuple(sizes[s] for s in (letters[:1] if part == "bias" else letters))
                names = (n.format(layer).replace("*", part) for n in (ours, theirs))
                rows.append((*names, shape))
    return rows


# --------------------------------------------------------------------------- safetensors
# 8 bytes: length of the header; the header, JSON; the tensors' bytes without holes or overlap.

DTYPES = {"I64": torch.int64, "F64": torch.float64, "F32": torch.float32, "I32": torch.int32,
          "BF16": torch.bfloat16, "F16": torch.float16, "U8": torch.uint8, "BOOL": torch.bool}
MAX_HEADER = 10_000_000   # bytes; XLM-R Large has 40 kB
MAX_TENSORS, MAX_LAYERS = 10_000, 500


def read_safetensors(path) -> dict[str, torch.Tensor]:
    """Name -> tensor of a .safetensors file.

    The tensors are views of a private mapping: reading costs nothing until a page is touched, and
    writing never reaches the file. Raises UserError, also for what the library lets pass: a name
    twice, an extra field, a blank before the header.
    """
    with _explain("no safetensors file", path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(100)
        start = 8 + int.from_bytes(head[:8], "little")
        _expect(start <= MAX_HEADER, f"no weights: {_stranger(head)}", path)
        _expect(start <= size, f"cut short (expected {start} bytes or more, found {size})", path)
        file.seek(8)
        entries = _parse_header(file.read(start - 8), path)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    begins = [begin for _, _, _, (begin, _) in entries] + [size - start]
    ends = [0] + [end for _, _, _, (_, end) in entries]
    _expect(begins == ends, "cut short, or its tensors leave holes or overlap (expected "
                            f"{start + ends[-1]} bytes, found {size})", path)
    return {name: _view(data, start + begin, dtype, shape)
            for name, dtype, shape, (begin, _) in entries}


def _parse_header(raw: bytes, path) -> list[tuple]:
    """(name, dtype, shape, offsets) of every tensor, in the order of their bytes."""
    _expect(raw[:1] == b"{", "broken header: it does not begin with {", path)
    header = DECODER.decode(raw.decode("utf-8"))
    metadata = header.pop("__metadata__", {})
    "".join([*header, *metadata, *metadata.values()]).encode("utf-8")    # text, no half surrogates
    _expect(len(header) <= MAX_TENSORS, f"{len(header)} tensors (at most {MAX_TENSORS})", path)
    entries = [_parse_entry(name, entry, path) for name, entry in header.items()]
    return sorted(entries, key=lambda entry: entry[-1])


def _parse_entry(name, entry, path) -> tuple:
    """Exactly the three fields, of the right types, and as many bytes as the shape needs."""
    good = isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}
    _expect(good, f"impossible tensor {name!r}", path)
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    good = (isinstance(kind, str) and isinstance(shape, list) and isinstance(offsets, list)
            and kind in DTYPES and len(shape) <= 8 and len(offsets) == 2
            and all(type(n) is int and n >= 0 for n in shape + offsets)
            and math.prod(n or 1 for n in shape) < 2 ** 48    # the format's own limit
            and offsets[1] - offsets[0] == math.prod(shape) * DTYPES[kind].itemsize)
    _expect(good, f"impossible or unsupported: {name!r} {str(entry)[:150]}", path)
    return name, DTYPES[kind], shape, offsets


def _view(data, offset, dtype, shape):
    count = math.prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    if offset % dtype.itemsize:    # legal, if odd; torch wants aligned memory
        data, offset = bytearray(data[offset:offset + count * dtype.itemsize]), 0
    return torch.frombuffer(data, dtype=dtype, count=count, offset=offset).view(shape)


def write_safetensors(path, tensors: dict[str, torch.Tensor], metadata={"format": "pt"}) -> None:
    """Write a .safetensors file, byte for byte the library's: tensors by dtype, then by name.

    No tensor is copied unless it is strided or on another device. `path` never exists half-written.
    """
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    names = sorted(tensors, key=lambda name: (list(kinds).index(tensors[name].dtype), name))
    header, end = {"__metadata__": metadata}, 0
    for name in names:
        begin, end = end, end + tensors[name].nbytes
        header[name] = {"dtype": kinds[tensors[name].dtype], "shape": list(tensors[name].shape),
                        "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    flat = (tensors[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
            for name in names if tensors[name].numel())
    write_bytes(path, chain([len(text).to_bytes(8, "little"), text], flat))


def write_bytes(path, pieces) -> None:
    """Write a file that appears under its name only when it is complete (a full disk: OSError)."""
    part = Path(f"{path}.part")
    try:
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


# ----------------------------------------------------------------------- PyTorch pickles

GLOBALS = {    # everything that the pickle of a plain state dict names
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
    "collections OrderedDict", "argparse Namespace",
    *(f"torch {k}Storage" for k in "Float Half BFloat16 Double Long Int Byte Bool".split())}
FORBIDDEN = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."    # torch before 1.6
ZIP_MAGIC = b"PK\x03\x04"
ZIP_ENTRY = re.compile(r"[^./\\][^/\\]*/(data\.pkl|version|byteorder|\.format_version"
                       r"|\.storage_alignment|\.data/serialization_id|data/[0-9]+)")


def read_pickle(path):
    """What torch.save wrote, if it holds only tensors, plain containers and argparse.Namespace.

    The file is scanned first: torch's restricted reader has had holes (CVE-2025-32434, 2026-24747),
    unpacks bombs and checks no CRC. There is no unrestricted second try. Raises UserError.
    """
    _expect(TorchVersion(torch.__version__) >= "2.10",
            f"torch {torch.__version__} cannot read this safely. Upgrade to 2.10", path)
    with _explain("no PyTorch file", path), open(path, "rb") as file:
        head = file.read(100)
        is_zip = head.startswith(ZIP_MAGIC)
        _expect(is_zip or head.startswith(LEGACY_MAGIC), f"no weights: {_stranger(head)}", path)
        if is_zip:
            _scan_zip(file, path)
        else:
            file.seek(0)
            for _ in range(5):    # magic, protocol, system, object, storage keys: one pickle each
                _scan_pickle(file, path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _scan_zip(file, path) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        odd = [name for name in names if not ZIP_ENTRY.fullmatch(name)]
        odd += [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        _expect(not odd, f"entries are compressed, or not PyTorch's: {odd[:3]}", path)
        pickles = [name for name in names if name.endswith("/data.pkl")]
        _expect(len(pickles) == 1 and len(set(names)) == len(names), "an entry occurs twice", path)
        used = sum(entry.file_size for entry in entries)
        _expect(used <= os.fstat(file.fileno()).st_size, "its entries overlap", path)
        with archive.open(pickles[0]) as stream:
            _scan_pickle(stream, path)
        broken = archive.testzip()
        _expect(not broken, f"entry {broken!r} is damaged: wrong CRC. Fetch the file again", path)


def _scan_pickle(stream, path) -> None:
    """Refuse names and operations that weights do not need, without running any."""
    for code, argument, _ in pickletools.genops(stream):
        good = argument in GLOBALS if code.name == "GLOBAL" else code.name not in FORBIDDEN
        _expect(good, f"refused: its pickle wants {code.name} {argument or ''}, which weights do "
                      "not need. Convert it to safetensors", path)


def _stranger(head: bytes) -> str:
    """What people find in the place of weights, by its first bytes."""
    found = (what for magic, what in STRANGERS.items() if head.lstrip().lower().startswith(magic))
    return next(found, "empty, cut short or of another kind")


def _expect(good, what: str, path) -> None:
    if not good:
        raise UserError(what, path)


@contextmanager
def _explain(what: str, path):
    """Libraries raise anything on hostile bytes: KeyError, struct.error, RuntimeError ..."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{what}: {why}", path) from error


# ----------------------------------------------------------------------- released models


def load_encoder(folder) -> tuple[Config, dict[str, torch.Tensor], Path, dict[str, torch.Tensor]]:
    """Open a Hugging Face folder or a fairseq archive of a plain XLM-R.

    Returns the sizes; the encoder under our names, in float32; the SentencePiece model; and the
    masked-LM head, {} where the file has none. Raises UserError unless every tensor of the encoder
    has its partner of the same shape in the file and the other way round, and for NaN and infinity.
    Names: transformers' script that converts fairseq's XLM-R.
    """
    folder = Path(folder)
    if (folder / "model.pt").exists() and not (folder / "config.json").exists():
        column, (config, path, state) = FAIRSEQ, _open_fairseq(folder)
    else:
        column, config, (path, state) = HF, _read_config(folder / "config.json"), _open_hf(folder)
    _expect((folder / TOKENIZER).is_file(), f"no {TOKENIZER}: copy the model's own", folder)
    _expect(config.hidden_size % config.num_heads == 0 and config.num_layers <= MAX_LAYERS,
            f"impossible sizes: {config}", path)
    rows = _expand(ENCODER, column, config)
    known = {theirs for _, theirs, _ in rows}
    unknown = [name for name in state if name not in known and not LEFTOVERS.fullmatch(name)]
    _expect(not unknown, f"{len(unknown)} tensors are not XLM-R's: {unknown[:5]}", path)
    halves = {str(tensor.dtype) for tensor in state.values()} & {"torch.float16", "torch.bfloat16"}
    if halves:
        print(f"{path}: {halves.pop()}, cast to float32", file=sys.stderr)
    encoder, head = _take(state, rows, path), {}
    if "lm_head.dense.weight" in state:
        head = _take(state, _expand(HEADS["mlm"][1], HF, config), path)
    if state and column == FAIRSEQ:
        print(f"warning: {path}: not used: {list(state)}", file=sys.stderr)
    return config, encoder, folder / TOKENIZER, head


def load_head(folder, kind: str) -> dict[str, torch.Tensor]:
    """The head that export_hf wrote beside the encoder, under our names. Raises UserError."""
    config = _read_config(Path(folder) / "config.json")
    path, state = _open_hf(Path(folder))
    bias = state.get("classifier.out_proj.bias", state.get("classifier.bias"))
    classes = 0 if bias is None else bias.numel()
    return _take(state, _expand(HEADS[kind][1], HF, config, classes), path)


def _take(state, rows, path) -> dict[str, torch.Tensor]:
    """Move the tensors of `rows` out of `state`: checked, in float32, under our names."""
    missing = [theirs for _, theirs, _ in rows if theirs not in state]
    _expect(not missing, f"{len(missing)} tensors are missing: {missing[:5]}", path)
    taken = {}
    for ours, name, shape in rows:
        tensor = state.pop(name)
        _expect(tuple(tensor.shape) == shape, f"{name} has the shape {list(tensor.shape)}, but "
                f"config.json (fairseq: the other tensors) says {list(shape)}", path)
        _expect(tensor.is_floating_point(), f"{name} holds {tensor.dtype}, no real numbers", path)
        tensor = taken[ours] = tensor.detach().to(torch.float32).contiguous()
        total = tensor.sum()    # the cheapest pass that NaN and infinity survive: 14 GB/s a core
        finite = total.isfinite() or torch.stack(torch.aminmax(tensor)).isfinite().all()
        _expect(finite, f"{name} holds NaN or infinity", path)
        filled = total != 0 or tensor.ndim < 2 or len(tensor) < 3 or tensor.any()
        _expect(filled, f"{name} is all zeros. Fetch the file again", path)
    return taken


def _open_hf(folder: Path):
    """(file or index, tensors under Hugging Face's names without `roberta.`)."""
    for name, read in (("model.safetensors", read_safetensors), ("pytorch_model.bin", read_pickle)):
        path, index = folder / name, folder / f"{name}.index.json"
        if path.exists() or index.exists():
            state = read(path) if path.exists() else _read_shards(index, read)
            return path, _rename(state, lambda name: name.removeprefix("roberta."), path)
    raise UserError("no weights here (expected model.safetensors, pytorch_model.bin, an index of "
                    "either, or fairseq's model.pt)", folder)


def _rename(state, rename, path) -> dict[str, torch.Tensor]:
    """The state under new names, once it is sure to be whole tensors by name."""
    _expect(isinstance(state, dict), f"a {type(state).__name__} (expected tensors by name)", path)
    renamed = {}
    for name, tensor in state.items():
        good = isinstance(name, str) and isinstance(tensor, torch.Tensor)
        _expect(good, f"{name!r} is a {type(tensor).__name__} (expected a tensor)", path)
        _expect(tensor.nbytes <= tensor.untyped_storage().nbytes(), f"{name!r} is cut short", path)
        _expect(rename(name) not in renamed, f"{name!r} is there with and without prefix", path)
        renamed[rename(name)] = tensor
    return renamed


def _read_shards(index: Path, read) -> dict[str, torch.Tensor]:
    """The union of the shards; index and shards must agree on names and bytes."""
    state = {}
    with _explain("broken index", index):
        content = read_json(index)
        places = content["weight_map"]
        for shard in sorted(set(places.values())):
            _expect(re.fullmatch(r"\w[\w.-]*", shard), f"{shard!r} is no plain file name", index)
            part = _rename(read(index.parent / shard), str, index.parent / shard)
            wrong = part.keys() ^ {name for name, place in places.items() if place == shard}
            _expect(not wrong, f"{len(wrong)} tensors stand only in {shard} or only in the index: "
                               f"{sorted(wrong)[:3]}", index)
            state |= part
        total = content.get("metadata", {}).get("total_size")
    every = sum(tensor.nbytes for tensor in state.values())
    once = sum({tensor.data_ptr(): tensor.nbytes for tensor in state.values()}.values())
    good = total in (None, every, once)    # tied tensors may count once
    _expect(good, f"wrong total_size (expected {every}, found {total!r})", index)
    return state


def _read_config(path: Path) -> Config:
    """config.json of a plain XLM-R; a field it lacks has transformers' class default."""
    raw = read_json(path)
    _expect(isinstance(raw, dict) and "model_type" in raw, "no model_type in it", path)
    for name, value in FIXED.items():
        _expect(raw.get(name, value) == value, f"{name} {raw.get(name)!r} is not supported, this "
                f"program reads xlm-roberta ({name} {value!r}). {RELATIVES}", path)
    values = {}
    for field, name, default in FIELDS:
        value = values[field] = raw.get(name, default)
        low, high = (1, 2 ** 31) if type(default) is int else (0, 1)
        good = type(value) in (int, type(default)) and low <= value < high
        _expect(good, f"{name} cannot be {value!r}", path)
    absent = [name for _, name, _ in FIELDS if name not in raw]
    if absent:
        print(f"warning: {path}: no {', '.join(absent)}, so transformers' defaults hold, which "
              "are not XLM-R's", file=sys.stderr)
    return Config(**values)


def _open_fairseq(folder: Path):
    """(sizes, file, tensors under fairseq's names: newest spelling, no prefixes)."""
    def short(name):
        name = re.sub(r"^(decoder|encoder)\.(sentence_encoder\.)?", "", name)
        return name.replace("layernorm_embedding.", "emb_layer_norm.")

    path = folder / "model.pt"
    with _explain("not fairseq's XLM-R", path):
        content = read_pickle(path)
        state, args = _rename(content["model"], short, path), content.get("args")
        state.pop("lm_head.weight", None)    # tied: it is embed_tokens.weight
        for name in [name for name in state if "in_proj_" in name]:
            for letter, third in zip("qkv", state.pop(name).chunk(3)):    # stacked in old files
                state[name.replace("in_proj_", f"{letter}_proj.")] = third
        _expect("layer_norm.weight" not in state, f"pre-norm, not supported. {RELATIVES}", path)
        names = ("embed_tokens.weight", "embed_positions.weight", "layers.0.fc1.weight")
        (vocab, hidden), (positions, _), (inner, _) = (state[name].shape for name in names)
        layers = len({name.split(".")[1] for name in state if name.startswith("layers.")})
        heads = getattr(args, "encoder_attention_heads", max(1, hidden // 64))
        _expect(type(heads) is int and heads > 0 and hidden > 0, "impossible sizes", path)
        _expect(getattr(args, "activation_fn", "gelu") == "gelu", "not a network with gelu", path)
    state["types.weight"] = torch.zeros(1, hidden)    # fairseq has none
    _check_dictionary(folder)
    return Config(vocab, hidden, layers, heads, inner, positions), path, state


def _check_dictionary(folder: Path) -> None:
    """dict.txt and the SentencePiece model list the same pieces: its first line is piece 3."""
    tokenizer, path = folder / TOKENIZER, folder / "dict.txt"
    _expect(TorchVersion(sentencepiece.__version__) >= "0.2.1",
            f"sentencepiece {sentencepiece.__version__} is not safe. Upgrade to 0.2.1", tokenizer)
    with _explain("no SentencePiece model", tokenizer):
        processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
        pieces = processor.id_to_piece(list(range(3, processor.get_piece_size())))
    lines = [line.split(" ")[0] for _, line in read_lines(path)]
    wrong = [i for i, (a, b) in enumerate(zip_longest(lines, pieces), 1) if a != b]
    _expect(not wrong, f"{len(wrong)} lines do not fit {TOKENIZER}, first line {wrong[:1]}", path)


# ------------------------------------------------------------------------------- exports


def export_hf(folder, config: Config, encoder: dict, kind: str | None = None,
              head: dict | None = None, labels=(), tokenizer: Path | None = None) -> None:
    """Write a folder that transformers (4.30 to 5.23) opens with from_pretrained.

    encoder and head are state dicts under our names; `kind` says whose head it is; labels: names of
    the C classes. float32 tensors are not copied, and load_encoder reads the same bits back.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    architecture, table = HEADS[kind] if kind else ("XLMRobertaModel", ())
    classes = len(head["out.weight"]) if kind in ("classification", "tagging") else 0
    tensors = _hf_names(encoder, _expand(ENCODER, HF, config))
    tensors |= _hf_names(head or {}, _expand(table, HF, config, classes))
    write_safetensors(folder / "model.safetensors", tensors)
    # Every field, because transformers' defaults are not XLM-R's.
    content = FIXED | {theirs: getattr(config, ours) for ours, theirs, _ in FIELDS}
    content |= {"architectures": [architecture], "torch_dtype": "float32", "use_cache": True,
                "classifier_dropout": None, "transformers_version": "4.30.2"}
    if classes:
        names = dict(enumerate(labels or [f"LABEL_{i}" for i in range(classes)]))
        assert len(names) == classes, "one label for each class"
        content |= {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    _write_json(folder / "config.json", content)
    if tokenizer:
        write_bytes(folder / TOKENIZER, [Path(tokenizer).read_bytes()])
        _write_json(folder / "tokenizer_config.json", {
            "tokenizer_class": "XLMRobertaTokenizer", "model_max_length": config.max_length})


def _hf_names(tensors, rows) -> dict[str, torch.Tensor]:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert found == {ours: shape for ours, _, shape in rows}, "state dict does not fit the sizes"
    heads = ("classifier", "qa_outputs", "lm_head", "logit_scale")
    return {theirs if theirs.startswith(heads) else f"roberta.{theirs}": tensors[ours].float()
            for ours, theirs, _ in rows}


def _write_json(path, content: dict) -> None:
    write_bytes(path, [(json.dumps(content, indent=2, sort_keys=True) + "\n").encode("utf-8")])
