"""Largest difference of our hidden states from transformers', all layers, base and large shape.

    python tests/bench_hidden.py [DATA]

Random weights, fp32, eight texts of 5 to 512 tokens in one batch: padded there, packed here. The
weights travel through save_pretrained and weights.load_encoder.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

import benchlib
import data
import model
import weights


def texts(examples) -> list[str]:
    long = " ".join(examples[i].context for i in (10, 700, 1500))
    return ["Hello world!", "你好，世界", "नमस्ते दुनिया", examples[0].context[:300],
            examples[500].context, examples[900].context[:80], "สวัสดีชาวโลก " * 20, long]


def difference(batch, layers: int, shape: str, vocabulary: Path) -> float:
    hidden, heads = benchlib.SHAPES[shape]
    torch.manual_seed(0)
    peer = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(
        vocab_size=250002, hidden_size=hidden, num_hidden_layers=layers, type_vocab_size=1,
        num_attention_heads=heads, intermediate_size=4 * hidden, max_position_embeddings=514,
        layer_norm_eps=1e-5)).eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        (Path(folder) / "sentencepiece.bpe.model").symlink_to(vocabulary)
        config, state, _, _ = weights.load_encoder(folder)
        ours = model.make_encoder(config, state).eval()
        rows = torch.from_numpy(batch.input_ids).long().split(list(batch.lengths))
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)
        mask = padded != 1
        tensors = batch.to(benchlib.CPU)
        with torch.inference_mode():
            theirs = peer(padded, attention_mask=mask.long(), output_hidden_states=True)
            return max((ours(tensors.input_ids, tensors.cu_seqlens, tensors.lengths, depth)
                        - layer[mask]).abs().max().item()
                       for depth, layer in enumerate(theirs.hidden_states))


def main():
    given = benchlib.start(__doc__)
    folder = Path(given.DATA).resolve()
    _, examples, tokenizer, _ = benchlib.squad_features(folder)
    ids, (a,) = data.pool(tokenizer, texts(examples))
    a[:, 1] = np.minimum(a[:, 1], a[:, 0] + 510)
    f = data.Features("retrieval", ids, a, None, np.arange(8, dtype=np.int32))
    batch = data.make_batch(f, np.arange(8))
    print(f"lengths {batch.lengths}")
    for shape, layers in (("base", 12), ("large", 24)):
        found = difference(batch, layers, shape, folder / "xlmr/sentencepiece.bpe.model")
        benchlib.check(f"difference, {layers} layers of {shape}", found, 1e-4, at_most=True)
        print(f"{found:.1e}")


if __name__ == "__main__":
    main()
