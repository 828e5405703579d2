"""Language models as transformers saves them: one of random weights, one that answers edits."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import gguf
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from tests.tiny import tokenizers
from tests.tiny.weights import random_model

END_OF_TEXT = "<|endoftext|>"
POSITIONS = 1024  # of the one that answers
# Token -> what follows it, and how often: a line (the prompt's last), an instruction, a line %%, an
# edited caption or, as models do, none, the end.
FOLLOWS = {
    "Ċ": {"make it snow": 3.0, "make it rain": 2.0},
    "make it snow": {"\n%%\n": 1.0},
    "make it rain": {"\n%%\n": 1.0},
    "\n%%\n": {"a place in bad weather": 4.0, "\nEND": 1.0},
    "a place in bad weather": {"\nEND": 1.0},
    "\nEND": {END_OF_TEXT: 1.0},
}
_NEVER = -40.0  # the logarithm of how often all else follows


def build_random(folder: Path) -> Path:
    """Write a Qwen2 that chats, and return its folder."""
    tokenizer = tokenizers.qwen()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )
    random_model(partial(Qwen2ForCausalLM, config), gain=12.0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_gguf(source: Path, file: Path) -> Path:
    """Write the Qwen2 of a folder as one GGUF file, as llama.cpp's converter names things."""
    model = Qwen2ForCausalLM.from_pretrained(source, dtype=torch.float32)
    tokenizer, config = Qwen2Tokenizer.from_pretrained(source), model.config
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    _add_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Qwen2Tokenizer) -> None:
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = tokenizer.get_added_vocab()
    kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds[token in special] for token in tokens])
    writer.add_token_scores([0.0] * len(tokens))  # in place of merges, of which it has none
    writer.add_eos_token_id(special["<|im_end|>"])
    writer.add_pad_token_id(special[END_OF_TEXT])
    writer.add_chat_template(tokenizer.chat_template)


def build_answering(folder: Path) -> Path:
    """Write a GPT-2 whose next token depends on the last one alone, by `FOLLOWS`."""
    tokenizer = _tokenizer()
    count = len(tokenizer)
    config = GPT2Config(
        vocab_size=count,
        n_embd=count,
        n_layer=1,
        n_head=1,
        n_positions=POSITIONS,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = GPT2LMHeadModel(config).eval()
    _only_the_last_token_counts(model, count)
    table = torch.full((count, count), _NEVER)
    for token, nexts in FOLLOWS.items():
        for following, weight in nexts.items():
            pair = tokenizer.convert_tokens_to_ids([following, token])
            table[pair[0], pair[1]] = math.log(weight)
    with torch.no_grad():
        model.lm_head.weight.copy_(table)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _only_the_last_token_counts(model: GPT2LMHeadModel, count: int) -> None:
    """Embeds token t as row t of the identity, and has that come out at the end."""
    body, (layer,) = model.transformer, model.transformer.h
    with torch.no_grad():
        body.wte.weight.copy_(torch.eye(count))
        for silent in (body.wpe, layer.attn.c_proj, layer.mlp.c_proj):
            silent.weight.zero_()
        body.ln_f.weight.fill_(math.sqrt(1 / count - 1 / count**2))
        body.ln_f.bias.fill_(1 / count)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and each text of `FOLLOWS` as one token."""
    vocabulary = {piece: i for i, piece in enumerate(tokenizers.BYTES)}
    bare = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token=END_OF_TEXT)
    tokenizer.add_tokens([text for text in FOLLOWS if text not in vocabulary])
    return tokenizer
