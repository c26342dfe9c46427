"""A seeded two-layer BERT that reads whole words, as sentence-transformers saves it; no download."""

from __future__ import annotations

import torch


def save_tiny_encoder(folder, words, width=16, seed=0):
    """Write the checkpoint into a folder and return where it is."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    base = folder / "base"
    base.mkdir()
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    (base / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(vocab=str(base / "vocab.txt")).save_pretrained(base)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(base)
    model = SentenceTransformer(modules=[Transformer(str(base), max_seq_length=24), Pooling(width)], device="cpu")
    model.save(str(folder / "whole"), create_model_card=False)
    return folder / "whole"
