"""Write a GGUF file of a tiny Llama with the tokenizer of the other tests, as llama.cpp's converters do."""

from __future__ import annotations

import json

import gguf
import numpy as np

from tests.models import checkpoints


def write_gguf(path, architecture="llama", add_bos=True, eos=True, seed=0):
    """Write the file; give the model and the tokenizer that it holds."""
    tokenizer = checkpoints.tokenizer()
    model = checkpoints.model("llama", len(tokenizer), seed=seed, tie_word_embeddings=False)
    writer = gguf.GGUFWriter(str(path), architecture)
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokenizer))
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens = [by_id[number] for number in range(len(tokenizer))]
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if number in special else 1 for number in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    if eos:
        writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(add_bos)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(gguf_name(name), permuted(name, tensor.numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, tokenizer


def gguf_name(name):
    renamed = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers.": "blk.",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "ffn_norm",
        "input_layernorm": "attn_norm",
    }
    for old, new in renamed.items():
        name = name.replace(old, new)
    return name


def permuted(name, weights, config):
    """Interleave the halves of each head's rotary dimensions, as llama.cpp keeps them."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            shape = (count, 2, weights.shape[0] // count // 2, *weights.shape[1:])
            weights = weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape)
    return np.ascontiguousarray(weights, dtype=np.float32)
