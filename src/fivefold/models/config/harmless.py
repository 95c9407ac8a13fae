"""Keys of a config.json that do not change what a language model computes.

A family takes them without looking. A key that is neither here nor read by the family is refused.
"""

from __future__ import annotations

HARMLESS_KEYS = frozenset(
    {
        # what the file is and who wrote it
        "architectures", "model_type", "transformers_version", "_name_or_path", "name_or_path",
        "_commit_hash", "unsloth_fixed", "unsloth_version", "transformers.js_config", "is_llama_config",
        "tokenizer_class",
        # how weights are stored: the tensors say it themselves, quantized ones as files gives them
        "dtype", "torch_dtype", "quantization_config",
        # training, and how Transformers runs the model
        "initializer_range", "attention_dropout", "hidden_dropout", "embd_pdrop", "resid_pdrop", "attn_pdrop",
        "use_cache", "cache_implementation", "pretraining_tp", "gradient_checkpointing",
        "attn_implementation", "_attn_implementation_autoset", "chunk_size_feed_forward", "use_bfloat16",
        "torchscript", "return_dict", "output_hidden_states", "output_attentions", "output_scores",
        "return_dict_in_generate", "tf_legacy_loss",
        # tasks that are none of ours
        "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
        # tokens with a role: read with the tokenizer
        "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "prefix",
        "decoder_start_token_id",
        # how to sample, as old configs hold it
        "do_sample", "temperature", "top_k", "top_p", "typical_p", "max_length", "min_length", "num_beams",
        "num_beam_groups", "diversity_penalty", "early_stopping", "length_penalty", "repetition_penalty",
        "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
        "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "suppress_tokens",
        "begin_suppress_tokens", "exponential_decay_length_penalty",
        # what the reader of the folder added
        "tokenizer.chat_template",
    }
)  # fmt: skip
