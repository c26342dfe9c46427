"""Tiny checkpoints made on the spot: a BPE tokenizer trained on titles, and seeded models of several families."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

BRANDS = ["Nike", "Adidas", "Salomon", "Merrell", "La Sportiva", "Clarks", "Ecco"]
KINDS = ["Air", "Air Max", "Trail Runner", "Hiking Boot", "Sandal", "Rain Boot", "Court Classic"]
COLOURS = ["black", "white", "red", "olive green", "navy"]
TITLES = [f"{brand} {kind} {colour}" for brand in BRANDS for kind in KINDS for colour in COLOURS]
TITLES += [f"{brand} {kind}" for brand in BRANDS for kind in KINDS]  # each begins some of the others

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(texts=TITLES, vocab_size=400, chat=False):
    """Byte-level BPE with control tokens, one of them added without being marked as special."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    fast.add_tokens(["<think>"], special_tokens=False)
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}

WINDOWED = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 8}


def model(family, vocab_size, seed=0, sharpness=8.0, **settings):
    """Build a random model; its output layer is scaled, so that probabilities differ as those of a trained one do."""
    torch.manual_seed(seed)
    common = {"vocab_size": vocab_size, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **settings}
    grouped = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 256, **common}
    built = {
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**grouped)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**grouped)),
        "sliding": lambda: MistralForCausalLM(MistralConfig(**{**grouped, "sliding_window": 6})),
        # some layers with a window of 6, some without; the second caps its logits behind the output layer
        "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**{**grouped, **WINDOWED, "head_dim": 8})),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**{**grouped, **WINDOWED, "head_dim": 8})),
        "bloom": lambda: BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, **common)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **common)),
        "t5": lambda: T5ForConditionalGeneration(
            T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0, **common)
        ),
    }[family]()
    head = built.get_output_embeddings()
    with torch.no_grad():
        if head.weight is built.get_input_embeddings().weight:
            built.get_input_embeddings().weight.mul_(sharpness)
        else:
            head.weight.mul_(sharpness * 4)
    return built.eval()


FAMILIES = ["qwen2", "llama", "gpt2", "sliding", "t5"]
