"""Record transformers' hidden states on a small random XLM-R: tests/fixtures/hidden.

    python tests/make_hidden.py          in an environment that has transformers

Writes weights (HF names), the input ids of eight texts of mixed length, and the output of every
layer, so that tests/test_model.py can compare without transformers.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "fixtures/hidden"
LENGTHS = (3, 5, 5, 9, 17, 17, 33, 60)
SIZES = dict(vocab_size=120, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
             intermediate_size=48, max_position_embeddings=66, type_vocab_size=1,
             layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2)


def texts() -> list[list[int]]:
    """Eight id sequences `<s> ... </s>` without pad tokens."""
    generator = torch.Generator().manual_seed(7)
    return [[0, *torch.randint(3, 120, (n - 2,), generator=generator).tolist(), 2] for n in LENGTHS]


def hidden_states(model, sequences) -> list[torch.Tensor]:
    """Hidden states after every layer, padding removed: layers of [N, H]."""
    longest = max(map(len, sequences))
    ids = torch.tensor([s + [1] * (longest - len(s)) for s in sequences])
    with torch.no_grad():
        out = model(ids, attention_mask=(ids != 1).long(), output_hidden_states=True)
    return [layer[ids != 1] for layer in out.hidden_states]


def main() -> None:
    torch.manual_seed(7)
    model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SIZES)).eval()
    for parameter in model.parameters():          # unlike a fresh one: biases and types not zero
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(FOLDER)
    layers = hidden_states(model, texts())
    save_file({f"layer{i}": x.contiguous() for i, x in enumerate(layers)},
              FOLDER / "hidden.safetensors")
    (FOLDER / "sentencepiece.bpe.model").touch()     # the loader wants one; no text is encoded
    made = {"made_by": "tests/make_hidden.py", "transformers": transformers.__version__,
            "torch": torch.__version__, "texts": texts()}
    (FOLDER / "texts.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
