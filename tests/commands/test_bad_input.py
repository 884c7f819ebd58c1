"""Bad input: one table of what is given, the exit status, and the line that must be printed.

All run in this process, since the imports are most of the time; `test_a_process_of_its_own` runs some for real.
"""

import gzip
import importlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_universal_pretrain.runs.checkpoints import mark_complete, read_marker
from tests.conftest import ROOT, once


TINY = [
    "--model", "gpt2", "--config_overrides", "n_layer=1,n_embd=16,n_head=2,n_positions=64", "--context_length", "32",
    "--source_batch", "8", "--buffer_size", "32", "--hidden_size", "16", "--burn_in_rounds", "2",
    "--per_device_train_batch_size", "4", "--eval_windows", "4",
]  # fmt: skip
RUN = [*TINY, "--max_steps", "4", "--save_steps", "2", "--eval_strategy", "no", "--eval_on_start", "false"]
TUNE = ["--model", "run", "--context_length", "32", "--max_steps", "2"]

EXPORT = ["--rows", "64", "--context_length", "32", "--num_proc", "1"]
COMPARE = ["--output_dir", "compared", "--train_file", "long.txt", "--context_length", "32"]

# ---- Flags and YAML: pretrain.py with TINY and these ----
PRETRAIN = {
    "unknown model": (["--model", "gpt22"], "--model: no model at 'gpt22'"),
    "misspelt model": (["--model", "gpt_neo_"], "did you mean 'gpt_neo'?"),
    "not a causal model": (["--model", "t5"], "--model: 't5' is not a causal language model"),
    "model looks ahead": (["--model", "xlnet", "--config_overrides", "n_layer=1,d_model=16,n_head=2,d_inner=16"],
                          "--model: 'xlnet' looks ahead"),
    "model is a file": (["--model", "short.txt"], "--model: no model at 'short.txt'"),
    "model folder is empty": (["--model", "empty_folder"], "--model: no model at 'empty_folder'"),
    "model config is no JSON": (["--model", "config_broken"], "--model: no model at 'config_broken'"),
    "model config is a list": (["--model", "config_list"], "--model: no model at 'config_list'"),
    "model config of no known type": (["--model", "config_unknown"], "--model: no model at 'config_unknown'"),
    "model with code of its own": (["--model", "with_code"], "--trust_remote_code"),
    "unknown family": (["--machines", "lstmm"], "machines: unknown machine family 'lstmm'"),
    "no family": (["--machines="], "machines: unknown machine family ''"),
    "family named twice": (["--machines", "lstm,lstm"], "machines: 'lstm' is named twice"),
    "share is no number": (["--machines", "lstm=x"], "machines: the share of 'lstm' must be a number above 0"),
    "share is infinite": (["--machines", "lstm=inf"], "machines: the share of 'lstm' must be a number above 0"),
    "family too rare": (["--machines", "lstm=1000,gru=1"], "source_batch is 8, too few rows"),
    "unknown flag": (["--speed", "3"], "--speed"),
    "flag cut short": (["--max_step", "3"], "--max_step"),
    "flag without a value": (["--max_steps"], "--max_steps"),
    "not a number": (["--max_steps", "many"], "--max_steps"),
    "not whole": (["--context_length", "32.5"], "--context_length"),
    "unknown choice": (["--alphabet", "greek"], "--alphabet"),
    "unknown preset": (["--preset", "papers"], "--preset"),
    "unknown schedule": (["--lr_scheduler_type", "cosin"], "--lr_scheduler_type"),
    "unknown optimizer": (["--optim", "adamm"], "--optim"),
    "unknown tracker": (["--report_to", "paper"], "paper"),
    "settings in a file that is not there": (["--accelerator_config", "0"], "--accelerator_config: cannot read 0"),
    "schedule's settings are no JSON": (["--lr_scheduler_kwargs", "{min_lr"], "lr_scheduler_kwargs"),
    "context too long": (["--context_length", "65"], "--context_length: 65 is more than the 64 positions"),
    "context too short": (["--context_length", "1"], "context_length must be at least 2"),
    "seed longer than a row": (["--seed_length", "32"], "seed_length is 32, but a row has only 32 symbols"),
    "alphabet too large": (["--alphabet_size", "257"], "alphabet_size is 257"),
    "alphabet too small": (["--alphabet_size", "1"], "alphabet_size must be at least 2"),
    "source batch too large": (["--source_batch", "64"], "source_batch is 64, but the buffer has only 32 rows"),
    "odd buffer": (["--buffer_size", "33"], "buffer_size must be even"),
    "odd resets": (["--num_resets", "3"], "num_resets must be even"),
    "negative size": (["--hidden_size", "-4"], "hidden_size must be at least 1"),
    "negative seed": (["--stream_seed", "-1"], "stream_seed must be at least 0"),
    "more than 64 bits": (["--max_steps", "1" + 400 * "0"], "--max_steps: a number of more than 64 bits"),
    "batch of a lifetime": (["--per_device_train_batch_size", "1000000000000"], "the rows of a step takes"),
    "one gain": (["--gain_range", "3"], "gain_range must be two finite numbers"),
    "gains the wrong way round": (["--gain_range", "5", "3"], "gain_range must be two finite numbers"),
    "infinite gain": (["--gain_range", "5", "inf"], "gain_range must be two finite numbers"),
    "temperature from 0": (["--temperature_range", "0", "1"], "temperature_range must start above 0"),
    "band is no band": (["--complexity", "0.3"], "complexity must be LOW:HIGH"),
    "band the wrong way round": (["--complexity", "0.9:0.3"], "complexity must be LOW:HIGH"),
    "curriculum is no mapping": (["--curriculum", "lstm"], "curriculum: each stage must be a mapping"),
    "curriculum without a step": (["--curriculum", "{machines: lstm}"], "curriculum: each stage must be a mapping"),
    "curriculum runs code": (["--curriculum", "!!python/object/apply:os.system [touch ran]"], "curriculum"),
    "epochs of a stream": (["--num_train_epochs", "3"], "--num_train_epochs: the stream has no end"),
    "no steps": (["--max_steps", "0"], "max_steps must be positive"),
    "no rows in a step": (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size must be at least 1"),
    "no accumulation": (["--gradient_accumulation_steps", "0"], "--gradient_accumulation_steps must be at least 1"),
    "learning rate is NaN": (["--learning_rate", "nan"], "--learning_rate must be a number from 0 on"),
    "learning rate is negative": (["--learning_rate=-1e-3"], "--learning_rate must be a number from 0 on"),
    "no logging interval": (["--logging_steps", "0"], "logging"),
    "workers": (["--dataloader_num_workers", "2"], "dataloader_num_workers must be 0"),
    "replayed stream": (["--ignore_data_skip", "false"], "ignore_data_skip must stay on"),
    "half precision without a GPU": (["--fp16"], "--fp16 needs a GPU"),
    "another way to save on SIGTERM": (["--enable_jit_checkpoint"], "--enable_jit_checkpoint: leave it out"),
    "checkpoints that are none": (["--save_only_model"], "--save_only_model: leave it out"),
    "no windows": (["--eval_windows", "0"], "--eval_windows"),
    "text missing": (["--eval_text", "a=nowhere.txt"], "--eval_text: cannot read nowhere.txt"),
    "text missing, in Greek": (["--eval_text", "α=πουθενά.txt"], "--eval_text: cannot read πουθενά.txt"),
    "text empty": (["--eval_text", "a=empty.txt"], "--eval_text: empty.txt is empty"),
    "text too short": (["--eval_text", "a=short.txt"], "--eval_text a has 5 bytes"),
    "text is binary": (["--eval_text", "a=binary.txt"], "--eval_text: cannot read binary.txt as a UTF-8 text file"),
    "text in Latin-1": (["--eval_text", "a=latin1.txt"], "--eval_text: cannot read latin1.txt as a UTF-8 text file"),
    "text in UTF-16": (["--eval_text", "a=utf16.txt"], "--eval_text: cannot read utf16.txt as a UTF-8 text file"),
    "text is a folder": (["--eval_text", "a=used"], "--eval_text: cannot read used"),
    "text links to itself": (["--eval_text", "a=loop"], "--eval_text: cannot read loop"),
    "text links to nothing": (["--eval_text", "a=dangling"], "--eval_text: cannot read dangling"),
    "text is not packed": (["--eval_text", "a=short.txt.gz"], "--eval_text: cannot read short.txt.gz"),
    "text's package is cut off": (["--eval_text", "a=cut.txt.gz"], "--eval_text: cannot read cut.txt.gz"),
    "text without a name": (["--eval_text", "short.txt"], "--eval_text takes NAME=PATH"),
    "text twice": (["--eval_text", "a=long.txt", "a=long.txt"], "--eval_text takes NAME=PATH, each name once"),
    "no yaml": (["--config", "nowhere.yaml"], "--config: cannot read nowhere.yaml"),
    "yaml is a folder": (["--config", "used"], "--config: cannot read used"),
    "yaml is binary": (["--config", "binary.txt"], "--config: cannot read binary.txt"),
    "yaml is a list": (["--config", "list.yaml"], "--config: list.yaml must hold flags"),
    "yaml is empty": (["--config", "empty.txt"], "--config: empty.txt must hold flags"),
    "yaml is broken": (["--config", "broken.yaml"], "--config: cannot read broken.yaml"),
    "yaml runs code": (["--config", "code.yaml"], "--config: cannot read code.yaml"),
    "yaml key unknown": (["--config", "typo.yaml"], "unknown key 'machine'; did you mean 'machines'?"),
    "yaml key is no word": (["--config", "key.yaml"], "unknown key 3"),
    "yaml value of another type": (["--config", "value.yaml"], "--max_steps"),
    "yaml text has a NUL": (["--config", "nul.yaml"], "--eval_text: cannot read"),
    "tokenizer missing": (["--tokenizer", "none-such"], "--tokenizer: no tokenizer at 'none-such'"),
    "tokenizer broken": (["--tokenizer", "tokenizer_broken"], "--tokenizer: no tokenizer at 'tokenizer_broken'"),
    "tokenizer has code": (["--tokenizer", "tokenizer_with_code"], "--trust_remote_code"),
    "override without a value": (["--config_overrides", "n_layer"], "--config_overrides 'n_layer'"),
    "override of nothing": (["--config_overrides", "layers=2"], "--config_overrides 'layers=2'"),
    "override of another type": (["--config_overrides", "n_layer=two"], "--config_overrides 'n_layer=two'"),
    "heads do not divide": (["--config_overrides", "n_embd=16,n_head=3"], "configuration of 'gpt2' makes no model"),
    "padding of nothing": (["--pad_vocab_multiple_of", "0"], "--pad_vocab_multiple_of must be at least 1"),
    "output is a file": (["--output_dir", "short.txt"], "--output_dir: short.txt is a file"),
    "output below a file": (["--output_dir", "short.txt/out"], "--output_dir: short.txt is a file"),
    "output links to nothing": (["--output_dir", "dangling"], "--output_dir: dangling is a link to nothing"),
    "output cannot be written": (["--output_dir", "/proc/none/out"], "--output_dir: cannot write to /proc"),
    "output holds another run": (["--output_dir", "used"], "--output_dir: used holds another run"),
    "output holds another model's configuration": (["--output_dir", "config_list"],
                                                   "--output_dir: config_list holds another run"),
    "output holds foreign checkpoints": (["--output_dir", "foreign"], "--output_dir: foreign holds another run"),
    "resume from nothing": (["--resume_from_checkpoint", "used"], "--resume_from_checkpoint: used is not a complete"),
    # numbers, schedules and metrics that transformers refuses in the middle of a run, or never
    "warm-up is NaN": (["--warmup_steps", "nan"], "--warmup_steps must be a number from 0 on, not nan"),
    "warm-up is infinite": (["--warmup_steps", "inf"], "--warmup_steps must be a number from 0 on, not inf"),
    "decay is NaN": (["--weight_decay", "nan"], "--weight_decay must be a number from 0 on"),
    "decay is negative": (["--weight_decay=-0.1"], "--weight_decay must be a number from 0 on"),
    "first beta out of range": (["--adam_beta1", "1"], "--adam_beta1 must be a number from 0 to below 1"),
    "second beta out of range": (["--adam_beta2", "1.5"], "--adam_beta2 must be a number from 0 to below 1"),
    "epsilon is negative": (["--adam_epsilon=-1"], "--adam_epsilon must be a number from 0 on"),
    "smoothing is NaN": (["--label_smoothing_factor", "nan"], "--label_smoothing_factor must be a number"),
    "all is smoothing": (["--label_smoothing_factor", "1"], "--label_smoothing_factor must be a number"),
    "clipping at NaN": (["--max_grad_norm", "nan"], "--max_grad_norm must be a number from 0 on"),
    "noise is NaN": (["--neftune_noise_alpha", "nan"], "--neftune_noise_alpha must be a number from 0 on"),
    "logging at NaN": (["--logging_steps", "nan"], "--logging_steps"),
    "saving at infinity": (["--save_steps", "inf"], "--save_steps must be finite"),
    "schedule's settings are unknown": (["--lr_scheduler_kwargs", '{"slope": 1}'], "--lr_scheduler_kwargs"),
    "schedule's settings are missing": (["--lr_scheduler_type", "cosine_with_min_lr"], "--lr_scheduler_kwargs"),
    "schedule's settings are nested too deep": (["--lr_scheduler_kwargs", '{"a": ' * 9000], "lr_scheduler_kwargs"),
    "optimizer's settings are none": (["--optim_args", "much"], "--optim"),
    "optimizer that is not installed": (["--optim", "adamw_bnb_8bit"], "--optim"),
    "metric that is not measured": (["--metric_for_best_model", "accuracy"], "there will be no eval_accuracy"),
    "best model by a loss that is not measured": (
        ["--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "2", "--save_steps", "2"],
        "--metric_for_best_model: there will be no eval_loss; what is measured is eval_english_bits_per_byte"),
    "plateau of a loss that is not measured": (["--lr_scheduler_type", "reduce_lr_on_plateau"], "no eval_loss"),
    # more than there is
    "more layers than can be made": (["--config_overrides", "n_layer=1000000000"], "n_layer is 1,000,000,000"),
    "layers of many types": (["--model", "qwen3", "--config_overrides", "num_hidden_layers=1000000000"],
                             "num_hidden_layers is 1,000,000,000, more than 1,000"),
    "wider than memory": (["--config_overrides", "n_embd=4000000,n_head=1"], "GB in float32, four times that"),
    "folder with more layers than can be made": (["--model", "config_deep"], "num_hidden_layers is 1,000,000,000"),
    "folder wider than memory": (["--model", "config_wide", "--config_overrides", "num_hidden_layers=2"],
                                 "--model: a model of"),
    "folder nested too deep": (["--model", "config_nested"], "--model: no model at 'config_nested'"),
    "buffer larger than memory": (["--buffer_size", "2000000000000"], "the buffer takes"),
    "buffer of a number that is none": (["--buffer_size", "1" + "0" * 15], "buffer_size is larger than 1e+13"),
    "round larger than memory": (["--buffer_size", "20000000000", "--source_batch", "20000000000"], "takes"),
    "machines larger than memory": (["--machines", "lstm", "--hidden_size", "10000000"], "the machines of lstm take"),
    "machines of too many layers": (["--machines", "lstm", "--num_layers", "1000000000"], "the machines of lstm take"),
    "machines of a stage larger than memory": (
        ["--curriculum", "{at: 9, machines: lstm}", "--hidden_size", "10000000"], "the machines of lstm take"),
    "burn-in without end": (["--burn_in_rounds", "1000000000000"], "before the first row would never come to an end"),
    "curriculum nested too deep": (["--curriculum", "{at: " * 3000], "curriculum: each stage must be a mapping"),
    "curriculum says a thing twice": (["--curriculum", "{at: 1, at: 2, machines: lstm}"],
                                      "curriculum: each stage must be a mapping"),
    # files that are none, or larger than they look
    "text is a pipe": (["--eval_text", "a=pipe"], "--eval_text: cannot read pipe as a UTF-8 text file (it is a pipe)"),
    "text is a device": (["--eval_text", "a=/dev/zero"], "(it is a device or a socket)"),
    "text is another device": (["--eval_text", "a=/dev/stdin"], "--eval_text: cannot read /dev/stdin"),
    "text's package is a bomb": (["--eval_text", "a=bomb.txt.gz"], "for which there is no room on disk"),
    "yaml is a pipe": (["--config", "./pipe"], "--config: cannot read pipe as YAML (it is a pipe)"),
    "yaml is a device": (["--config", "/dev/zero"], "--config: cannot read /dev/zero"),
    "yaml says a thing twice": (["--config", "twice.yaml"], "key 'max_steps' is given twice"),
    "yaml laughs a billion times": (["--config", "laughs.yaml"], "more than 100,000 values"),
    "yaml is nested too deep": (["--config", "deep.yaml"], "--config: cannot read deep.yaml"),
    "yaml refers to itself": (["--config", "itself.yaml"], "--config: cannot read itself.yaml"),
    "flag given twice": (["--seed", "1", "--max-steps", "9", "--max_steps=8"], "--max_steps is given twice"),
    "text flag given twice": (["--eval_text", "a=long.txt", "--eval-text", "b=long.txt"], "--eval_text is given"),
    "override given twice": (["--config_overrides", "n_layer=1,n_layer=2"], "n_layer is given twice"),
    "override that others undo": (["--model", "qwen3", "--config_overrides", "num_hidden_layers=2,sliding_window=8"],
                                  "sliding_window would be None because of other settings"),
    "a list that is cut off": (["--model", "qwen3", "--config_overrides", 'layer_types=["full'], "layer_types"),
    "layers and their types differ": (
        ["--model", "qwen3", "--config_overrides", 'num_hidden_layers=2,layer_types=["full_attention"]'],
        "must be equal to the number of `layer_types`"),
    "token in a mistyped flag": (["--hub_tokn", "hf_" + "x" * 34], "'--hub_tokn', '***'"),
    "push without a name": (["--push_to_hub", "--hub_model_id", "a/b/c"], "--hub_model_id: 'a/b/c' is not a name"),
}  # fmt: skip

WARM_AND = {
    "warm start of another architecture": (["--model", "gpt2"], "--model: leave it out: --warm_start takes"),
    "warm start with changes": (["--config_overrides", "n_layer=2"], "--config_overrides: leave it out: --warm_start"),
}

# ---- What a model is made of: pretrain.py --warm_start ----
WARM_START = {
    "warm start from another run's rest": ("used", "--warm_start: no model at 'used'"),
    "warm start from a pickle": ("pickled", "--warm_start: no model at 'pickled'"),
    "weights are NaN": ("nan", "weights of 'nan' hold NaN or infinite values (transformer.wte.weight)"),
    "weights are cut off": ("cut", "--warm_start: no model at 'cut'"),
    "weights are text": ("text_weights", "--warm_start: no model at 'text_weights'"),
    "weights of another size": ("other_size", "--warm_start: no model at 'other_size'"),
    "weights are a pickle under another name": ("index_pickle", "names 'weights.bin'"),
    "index leads elsewhere": ("index_elsewhere", "names '../run/model.safetensors'"),
    "index is a list": ("index_list", "model.safetensors.index.json is no index of weights"),
    "weights lack one": ("lacks_one", "has no values for 1 weights of the model (transformer.h.0.mlp.c_fc.weight)"),
    "vocabulary does not fit the weights": ("other_vocabulary", "--warm_start: no model at 'other_vocabulary'"),
    "model of more layers than can be made": ("deep_model", "n_layer is 1,000,000,000"),
    "data's settings are nested too deep": ("data_deep", "data_deep/synthetic_up_config.json is not"),
    "data's buffer is larger than memory": ("data_large", "the buffer takes"),
    "data's settings are no JSON": ("data_broken", "data_broken/synthetic_up_config.json is not"),
    "data's settings are a list": ("data_list", "data_list/synthetic_up_config.json is not"),
    "data's settings are binary": ("data_binary", "data_binary/synthetic_up_config.json is not"),
    "data's settings are unknown": ("data_unknown", "unknown ['warp']"),
    "data's settings have another type": ("data_type", "context_length"),
    "data's settings are out of range": ("data_range", "seed_length must be at least 1"),
    "data's machines are a number": ("data_machines", "machines"),
}  # fmt: skip

# ---- Going on: pretrain.py with RUN, and these, in a copy of a run that stopped at step 4 of 8 ----
GO_ON = {
    "seed changed": (["--stream_seed", "1"], 2, "stream_seed (was 0, now 1)"),
    "training seed changed": (["--seed", "1"], 2, "seed (was 42, now 1)"),
    "machines changed": (["--machines", "lstm"], 2, "machines (was two_clocks@1, now lstm)"),
    "context changed": (["--context_length", "16"], 2, "context_length (was 32, now 16)"),
    "batch changed": (["--per_device_train_batch_size", "2"], 2, "per_device_train_batch_size (was 4, now 2)"),
    "learning rate changed": (["--learning_rate", "0.01"], 2, "learning_rate (was 0.001, now 0.01)"),
    "model changed": (["--config_overrides", "n_layer=2,n_embd=16,n_head=2,n_positions=64"], 2,
                      "model.n_layer (was 1, now 2)"),
    "two things changed": (["--seed", "1", "--hidden_size", "8"], 2, "hidden_size (was 16, now 8)"),
    "fewer steps than taken": (["--max_steps", "3"], 2, "--max_steps"),
    "another output folder's checkpoint": (["--resume_from_checkpoint", "going/checkpoint-4", "--output_dir", "used"],
                                           2, "--output_dir: used holds another run"),
    "an older checkpoint": (["--resume_from_checkpoint", "going/checkpoint-2"], 2, "holds newer checkpoints"),
    "a checkpoint that was cut": (["--resume_from_checkpoint", "going_cut/checkpoint-4"], 2,
                                  "optimizer.pt has 1,000 bytes instead of"),
    "a checkpoint that misses a file": (["--resume_from_checkpoint", "going_lacks/checkpoint-4"], 2,
                                        "model.safetensors is missing"),
    "a stream's state that was tampered with": (["--resume_from_checkpoint", "going_tampered/checkpoint-4"], 2,
                                                "synthetic_stream_0.pt is not what was written"),
    "a marker that is no JSON": (["--resume_from_checkpoint", "going_marker/checkpoint-4"], 2, "unreadable complete"),
    "a run's file that is no JSON": (["--output_dir", "going_run_file"], 2, "cannot read going_run_file/_run.json"),
    "a state that is empty": (["--output_dir", "going_state_empty"], 2,
                              "going_state_empty/checkpoint-4/trainer_state.json is not the state of a run"),
    "a state that is a list": (["--output_dir", "going_state_list"], 2,
                               "trainer_state.json is not the state of a run"),
    "a state of strings": (["--output_dir", "going_state_words"], 2,
                           "trainer_state.json is not the state of a run"),
    "a state that counts with nothing": (["--output_dir", "going_state_nothing"], 2, "(its total_flos is 'None')"),
    "a state whose log is of words": (["--output_dir", "going_state_log"], 2, "(its loss is 'much')"),
    "a state that does not know its batch": (["--output_dir", "going_state_batch"], 2, "has no train_batch_size"),
    "a state whose best checkpoint is a list": (["--output_dir", "going_state_best"], 2,
                                                "(its best_model_checkpoint is '[]')"),
    "a state whose figures lack a number": (["--output_dir", "going_state_figures"], 2, "of a run (KeyError: 'gain')"),
    "a state whose figures are words": (["--output_dir", "going_state_bits"], 2,
                                        "(the bits_per_byte of its figures is 'few')"),
    "a state of endless rounds": (["--output_dir", "going_state_rounds"], 2, "(its rounds is 'inf')"),
    "a state of a number without end": (["--output_dir", "going_state_long"], 2, "(its seconds is '1000"),
    "a state whose log is none": (["--output_dir", "going_state_text"], 2, "(its log is no list)"),
    "a state that is not the checkpoint's": (["--output_dir", "going_state_zeros"], 2,
                                             "is at step 0, and its marker says 4"),
    "best model asked for": (
        ["--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "2", "--metric_for_best_model",
         "english_bits_per_byte"], 2, "load_best_model_at_end (was False, now True)"),
    "best by another metric": (["--metric_for_best_model", "eval_english_whole_bits"], 2,
                               "metric_for_best_model (was None, now eval_english_whole_bits)"),
    "rows in another order": (["--train_sampling_strategy", "sequential"], 2, "train_sampling_strategy (was random"),
    "measured on another text": (["--eval_text", "a=long.txt"], 2, "eval_text (was the interpreter's, now a "),
    "a finished run, measured on another text": (["--output_dir", "run", "--eval_text", "a=long.txt"], 2, "eval_text"),
    "a finished run": (["--output_dir", "run"], 0, "The run in run is finished (at step 4): nothing to do."),
    "a finished run, changed": (["--output_dir", "run", "--seed", "1"], 2, "seed (was 42, now 1)"),
}  # fmt: skip

# ---- finetune.py with TUNE and these ----
FINETUNE = {
    "pretrained model missing": (["--model", "nowhere"], "--model: no tokenizer at 'nowhere'"),
    "pretrained model is another thing": (["--model", "used"], "--model: no tokenizer at 'used'"),
    "pretrained model is pickled": (["--model", "pickled"], "--model: no model at 'pickled'"),
    "pretrained model is NaN": (["--model", "nan"], "--model: the weights of 'nan' hold NaN or infinite values"),
    "two texts": (["--dataset", "d"], "--train_file or --dataset"),
    "training text missing": (["--train_file", "nowhere.txt"], "--train_file: cannot read nowhere.txt"),
    "training text in Latin-1": (["--train_file", "latin1.txt"], "--train_file: cannot read latin1.txt"),
    "training text empty": (["--train_file", "empty.txt"], "--train_file: empty.txt is empty"),
    "training text too short": (["--train_file", "short.txt", "--eval_file", "long.txt"], "--train_file: 5 tokens"),
    "held-out text missing": (["--eval_file", "nowhere.txt"], "--eval_file: cannot read nowhere.txt"),
    "held-out text too short": (["--eval_file", "short.txt"], "--eval_file has 5 bytes"),
    "rows longer than the model": (["--context_length", "65"], "--context_length: 65 is more than the 64 positions"),
    "rows of nothing": (["--context_length", "0"], "--context_length must be at least 2"),
    "windows of nothing": (["--eval_windows", "0"], "--eval_windows must be at least 1"),
    "unknown part": (["--transfer", "half"], "--transfer"),
    "unknown embeddings": (["--embeddings", "half"], "--embeddings"),
    "moments of a part": (["--keep_optimizer", "--transfer", "mlp"], "--keep_optimizer: Adam's moments fit only"),
    "no moments": (["--model", "nothing_kept", "--keep_optimizer"], "has no complete checkpoint-N/optimizer.pt"),
    "impatient": (["--early_stopping_patience", "-1"], "--early_stopping_patience must be at least 0"),
    "patient without evaluations": (["--early_stopping_patience", "2", "--eval_strategy", "no"],
                                    "--early_stopping_patience needs evaluations"),
    "compared with nothing": (["--compare_with", "used"], "--compare_with: used is not the folder of a run"),
    "compared with a broken state": (["--compare_with", "state_broken"], "is not the state of a run"),
    "compared with a state of zeros": (["--compare_with", "state_zeros"], "is not the state of a run"),
    "compared with a state of words": (["--compare_with", "state_words"], "is not the state of a run"),
    "compared with a pipe": (["--compare_with", "state_pipe"], "--compare_with: state_pipe is not the folder"),
    "training text is a pipe": (["--train_file", "pipe"], "--train_file: cannot read pipe"),
    "training text is a bomb": (["--train_file", "bomb.txt.gz"], "for which there is no room on disk"),
    "moments of another optimizer": (["--keep_optimizer", "--optim", "adafactor"], "goes with --optim adamw_torch"),
    "tuned by a metric that is not measured": (["--metric_for_best_model", "loss", "--eval_steps", "1"],
                                               "there will be no eval_loss"),
    "tuned output holds another run": (["--output_dir", "used"], "--output_dir: used holds another run"),
}  # fmt: skip
# ---- Going on: finetune.py with TUNE, and pretrain.py with WARM, and these, in finished runs ----
TUNED = {
    "nothing changed": ([], 0, "The run in tuned is finished (at step 2): nothing to do."),
    "another pretrained model": (["--model", "retrained"], 2, "starting_weights (was "),
    "another model, longer": (["--model", "retrained", "--max_steps", "4"], 2, "Give the same settings to go on, or"),
    "scratch instead": (["--from_scratch"], 2, "from_scratch (was False, now True)"),
    "another held-out text": (["--eval_file", "long.txt"], 2, "eval_text (was held_out "),
    "patience": (["--early_stopping_patience", "2", "--eval_steps", "1"], 2,
                 "early_stopping_patience (was 0, now 2)"),
    "another metric": (["--metric_for_best_model", "held_out_whole_bits"], 2, "metric_for_best_model (was eval_held"),
    "the other way round": (["--greater_is_better", "true"], 2, "greater_is_better (was False, now True)"),
}  # fmt: skip
WARM = ["--warm_start", "run", "--max_steps", "1", "--eval_strategy", "no", "--eval_on_start", "false"]
WARMED = {
    "warm start, nothing changed": ([], 0, "The run in out/run-more is finished (at step 1): nothing to do."),
    "warm start from other weights": (["--warm_start", "retrained", "--output_dir", "out/run-more"], 2,
                                      "starting_weights (was "),
}  # fmt: skip
DATASET = {
    "no text": ([], "--train_file or --dataset"),
    "data set missing": (["--dataset", "none/such"], "--dataset: cannot read column 'text'"),
    "data set without the column": (["--dataset", "table"], "--dataset: cannot read column 'text' of split 'train'"),
}


# ---- evaluate.py, export_dataset.py and compare.py with these ----
OTHERS = {
    "figures into a folder": ("evaluate.py", ["--model", "run", "--json", "used"], "--json: used is a folder"),
    "figures below a file": ("evaluate.py", ["--model", "run", "--json", "short.txt/f"], "short.txt is a file"),
    "figures into a pipe": ("evaluate.py", ["--model", "run", "--json", "pipe"], "--json: pipe is a pipe"),
    "figures where none can be": ("evaluate.py", ["--model", "run", "--json", "/proc/f/f"], "--json: cannot write"),
    "windows of four": ("evaluate.py", ["--model", "run", "--context_length", "4"], "--context_length must be at"),
    "windows of nothing": ("evaluate.py", ["--model", "run", "--context_length", "0"], "--context_length must be at"),
    "windows of less": ("evaluate.py", ["--model", "run", "--context_length=-5"], "--context_length must be at least"),
    "evaluated without a weight": ("evaluate.py", ["--model", "lacks_one"], "has no values for 1 weights"),
    "shard is a folder": ("export_dataset.py", ["--output", "shard_folder", *EXPORT], "is no shard that can be read"),
    "shard is text": ("export_dataset.py", ["--output", "shard_text", *EXPORT], "is no shard that can be read"),
    "export larger than memory": (
        "export_dataset.py", ["--output", "new", *EXPORT, "--buffer_size", "2000000000000"], "the buffer takes"),
    "pictures of more than memory": (
        "inspect_data.py", ["--output_dir", "new", "--buffer_size", "2000000000000"], "the buffer takes"),
    "arm that leaves the folder": ("compare.py", [*COMPARE, "--arms", '{"scratch": {}, "../x": {}}'], "'../x' is no"),
    "arm with two starts": ("compare.py", [*COMPARE, "--arms", '{"scratch": {}, "b": {"model": "x", "pretrain": {}}}'],
        "b has model and pretrain: it starts from one"),
    "arm that shuffles nothing": ("compare.py", [*COMPARE, "--arms", '{"scratch": {"shuffle_weights": true}}'],
        "scratch has shuffle_weights: give model or weights_of"),
    "arms nested too deep": ("compare.py", [*COMPARE, "--arms", '{"a":' * 9000], "--arms must be a mapping"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, a finished run, one that is half done, and copies of both that were tampered with."""
    folder = tmp_path_factory.mktemp("bad")
    for name, content in {
        "empty.txt": "", "short.txt": "short", "long.txt": "It was the best of times. " * 200, "short.txt.gz": "short",
        "typo.yaml": "model: gpt2\nmachine: lstm\n", "list.yaml": "- model\n", "broken.yaml": "model: [\n",
        "value.yaml": "max_steps: soon\n", "key.yaml": "3: 4\n", "nul.yaml": 'eval_text: ["a=b\\0c"]\n',
        "twice.yaml": "max_steps: 4\nseed: 1\nmax_steps: 5\n", "deep.yaml": "eval_text: " + "[" * 5000,
        "laughs.yaml": "a: &a [ha]\n" + "".join(
            f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in pairwise("abcdefghi")
        ), "itself.yaml": "eval_text: &a [*a]\n",
        "code.yaml": "model: !!python/object/apply:os.system [touch ran]\n",
    }.items():  # fmt: skip
        (folder / name).write_text(content)
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 40)
    (folder / "latin1.txt").write_bytes("Où est la bibliothèque ? ".encode("latin-1") * 40)
    (folder / "utf16.txt").write_bytes(("text " * 100).encode("utf-16"))
    (folder / "cut.txt.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH")
    with gzip.open(folder / "bomb.txt.gz", "wb", compresslevel=9) as file:
        for _ in range(40):
            file.write(b" " * 2_000_000)
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere/at/all")
    empty = ("empty_folder", "used", "foreign/checkpoint-5", "table", "state_broken", "state_zeros", "state_words")
    for name in (*empty, "state_pipe", "shard_folder/data/train-00000.parquet", "shard_text/data"):
        (folder / name).mkdir(parents=True)
    (folder / "used" / "model.safetensors").write_text("")
    (folder / "foreign" / "checkpoint-5" / "trainer_state.json").write_text("{}")
    (folder / "table" / "train.csv").write_text("words\nsome\n")
    (folder / "state_broken" / "trainer_state.json").write_text("{")
    (folder / "state_zeros" / "trainer_state.json").write_text('{"global_step": 0, "log_history": 0}')
    (folder / "state_words" / "trainer_state.json").write_text('{"global_step": "4", "log_history": "none"}')
    os.mkfifo(folder / "state_pipe" / "trainer_state.json")
    (folder / "shard_text" / "data" / "train-00000.parquet").write_text("rows")
    for name, content in {
        "config_broken": "{", "config_list": "[1]", "config_unknown": '{"model_type": "gpt22"}',
        "config_deep": '{"model_type": "qwen3", "num_hidden_layers": 1000000000}',
        "config_wide": '{"model_type": "llama", "hidden_size": 8000000, "num_attention_heads": 8}',
        "config_nested": '{"model_type": "llama", "rope_parameters": ' + '{"a": ' * 9000,
        "with_code": json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}),
    }.items():  # fmt: skip
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(content)
    (folder / "with_code" / "own.py").write_text("open('ran', 'w')\n")
    for name, content in {
        "tokenizer_broken": '{"tokenizer_class": "PreTrainedTokenizerFast"}',
        "tokenizer_with_code": '{"auto_map": {"AutoTokenizer": ["own.Own", null]}}',
    }.items():
        (folder / name).mkdir()
        (folder / name / "tokenizer_config.json").write_text(content)
        (folder / name / "tokenizer.json").write_text("{")
        shutil.copy(folder / "with_code" / "own.py", folder / name / "own.py")
    _make_runs(folder)
    return folder


def _make_runs(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call("pretrain.py", [*RUN, "--output_dir", "run"], patch)
    shutil.copytree(folder / "run", folder / "going")
    state = json.loads((folder / "going" / "_run.json").read_text())
    (folder / "going" / "_run.json").write_text(json.dumps({**state, "finished_at": None}))
    shutil.copytree(folder / "run", folder / "retrained", ignore=shutil.ignore_patterns("checkpoint-*", "_run.json"))
    weights = load_file(folder / "run" / "model.safetensors")
    weights["transformer.wpe.weight"] += 1e-3
    save_file(weights, folder / "retrained" / "model.safetensors", metadata={"format": "pt"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call("finetune.py", [*TUNE, "--train_file", "long.txt", "--output_dir", "tuned"], patch)
        call("pretrain.py", WARM, patch)
    for name in ("cut", "lacks", "tampered", "marker", "run_file"):
        shutil.copytree(folder / "going", folder / f"going_{name}")
    with open(folder / "going_cut" / "checkpoint-4" / "optimizer.pt", "r+b") as file:
        file.truncate(1000)
    (folder / "going_lacks" / "checkpoint-4" / "model.safetensors").unlink()
    stream = folder / "going_tampered" / "checkpoint-4" / "synthetic_stream_0.pt"
    stream.write_bytes(stream.read_bytes()[:-100] + bytes(100))
    (folder / "going_marker" / "checkpoint-4" / "complete.json").write_text("{")
    (folder / "going_run_file" / "_run.json").write_text("{")
    for name, state in {
        "empty": {}, "list": [1], "words": {"global_step": "4", "log_history": "none"},
        "zeros": {"global_step": 0, "log_history": []},
        "nothing": {"global_step": 4, "log_history": [], "total_flos": None},
        "text": {"global_step": 4, "log_history": ""},
        "log": {"global_step": 4, "log_history": [{"step": 4, "loss": "much"}]},
        "batch": {"global_step": 4, "log_history": []},
        "rounds": {"global_step": 4, "log_history": [{"step": 4, "rounds": math.inf}]},
        "long": {"global_step": 4, "log_history": [{"step": 4, "seconds": 10**400}]},
        "figures": {"global_step": 4, "log_history": [{"step": 4, "figures": {"reach": {"full": 1.0}}}]},
        "bits": {"global_step": 4, "log_history": [
            {"step": 4, "figures": {"texts": {"english": {"whole": {"bits_per_byte": "few", "ci95": None}}}}}]},
        "best": {"global_step": 4, "log_history": [], "best_model_checkpoint": []},
    }.items():  # fmt: skip
        checkpoint = folder / f"going_state_{name}" / "checkpoint-4"
        shutil.copytree(folder / "going", checkpoint.parent)
        (checkpoint / "trainer_state.json").write_text(json.dumps(state))
        mark_complete(checkpoint, 4, read_marker(checkpoint)["settings"])  # by someone who knows of checksums

    model = shutil.ignore_patterns("checkpoint-*", "_run.json")
    names = ("pickled", "nan", "cut", "text_weights", "other_size", "nothing_kept", "index_pickle", "index_elsewhere",
             "index_list", "lacks_one", "other_vocabulary", "deep_model", "state_of_zeros")  # fmt: skip
    data = {
        "data_broken": "{", "data_list": "[1]", "data_unknown": '{"warp": 9}', "data_type": '{"context_length": "32"}',
        "data_deep": '{"machines": ' * 9000, "data_large": '{"buffer_size": 2000000000000}',
        "data_range": '{"seed_length": 0}', "data_machines": '{"machines": 3}', "data_binary": "",
    }  # fmt: skip
    for name in (*names, *data):
        shutil.copytree(folder / "run", folder / name, ignore=model)
    weights = load_file(folder / "run" / "model.safetensors")
    (folder / "pickled" / "model.safetensors").unlink()
    torch.save(weights, folder / "pickled" / "pytorch_model.bin")
    broken = {**weights, "transformer.wte.weight": weights["transformer.wte.weight"] * float("nan")}
    save_file(broken, folder / "nan" / "model.safetensors", metadata={"format": "pt"})
    whole = (folder / "run" / "model.safetensors").read_bytes()
    (folder / "cut" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "text_weights" / "model.safetensors").write_text("these are weights, believe me")
    config = json.loads((folder / "run" / "config.json").read_text())
    for name, index in {
        "index_pickle": {"weight_map": dict.fromkeys(weights, "weights.bin")}, "index_list": [1],
        "index_elsewhere": {"weight_map": dict.fromkeys(weights, "../run/model.safetensors")},
    }.items():  # fmt: skip
        (folder / name / "model.safetensors").unlink()
        (folder / name / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, **index} if isinstance(index, dict) else index)
        )
    torch.save(weights, folder / "index_pickle" / "weights.bin")
    fewer = {name: weight for name, weight in weights.items() if name != "transformer.h.0.mlp.c_fc.weight"}
    save_file(fewer, folder / "lacks_one" / "model.safetensors", metadata={"format": "pt"})
    (folder / "state_of_zeros" / "trainer_state.json").write_text('{"global_step": 0, "log_history": {"step": 0}}')
    for name, change in {"other_vocabulary": {"vocab_size": 300}, "deep_model": {"n_layer": 1_000_000_000}}.items():
        (folder / name / "config.json").write_text(
            json.dumps({**json.loads((folder / "run" / "config.json").read_text()), **change})
        )
    (folder / "other_size" / "config.json").write_text(json.dumps({**config, "n_embd": 32}))
    for name, content in data.items():
        (folder / name / "synthetic_up_config.json").write_text(content)
    (folder / "data_binary" / "synthetic_up_config.json").write_bytes(bytes(range(256)))


def call(recipe: str, flags: list[str], patch: pytest.MonkeyPatch) -> None:
    trains = recipe in ("pretrain.py", "finetune.py")
    patch.setattr("sys.argv", [recipe, *once(["--use_cpu", *flags] if trains else flags)])
    patch.syspath_prepend(ROOT / "recipes")
    importlib.import_module(recipe.removesuffix(".py")).main()


@pytest.fixture
def check(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., None]:
    def check(recipe: str, flags: list[str], status: int, message: str) -> None:
        before = sorted(folder.rglob("*"))
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        monkeypatch.setattr("hf_universal_pretrain.corpus.room", lambda: 40_000_000)  # a small bomb is one
        with pytest.raises(SystemExit) as exited:
            call(recipe, flags, monkeypatch)
        shown = capsys.readouterr()
        assert exited.value.code == status, shown.err
        # what a progress bar leaves is no message
        line = (
            re.sub(r"(Loading weights|Generating train split):[^\r\n]*[\r\n]+", "", shown.err) if status else shown.out
        )
        assert message in line and len(line.strip().splitlines()) == 1, line
        assert "Plan" not in shown.out
        assert sorted(folder.rglob("*")) == before, "something was written, or code was run"

    return check


@pytest.mark.parametrize("case", PRETRAIN)
def test_pretrain(case: str, check) -> None:
    flags, message = PRETRAIN[case]
    check("pretrain.py", [*TINY, *flags], 2, message)


def test_pretrain_needs_a_model(check) -> None:
    check("pretrain.py", [], 2, "--model: give an architecture such as gpt2")


@pytest.mark.parametrize("case", WARM_START)
def test_warm_start(case: str, check) -> None:
    model, message = WARM_START[case]
    check("pretrain.py", ["--warm_start", model, "--context_length", "32"], 2, message)


@pytest.mark.parametrize("case", WARM_AND)
def test_warm_start_and(case: str, check) -> None:
    flags, message = WARM_AND[case]
    check("pretrain.py", ["--warm_start", "run", *flags], 2, message)


@pytest.mark.parametrize("case", GO_ON)
def test_going_on(case: str, check) -> None:
    flags, status, message = GO_ON[case]
    check("pretrain.py", [*RUN, "--output_dir", "going", *flags], status, message)


@pytest.mark.parametrize("case", TUNED)
def test_going_on_with_fine_tuning(case: str, check) -> None:
    flags, status, message = TUNED[case]
    check("finetune.py", [*TUNE, "--train_file", "long.txt", "--output_dir", "tuned", *flags], status, message)


@pytest.mark.parametrize("case", WARMED)
def test_going_on_after_a_warm_start(case: str, check) -> None:
    flags, status, message = WARMED[case]
    check("pretrain.py", [*WARM, *flags], status, message)


@pytest.mark.parametrize("case", FINETUNE)
def test_finetune(case: str, check) -> None:
    flags, message = FINETUNE[case]
    check("finetune.py", [*TUNE, "--train_file", "long.txt", *flags], 2, message)


@pytest.mark.parametrize("case", DATASET)
def test_finetune_on_a_data_set(case: str, check) -> None:
    flags, message = DATASET[case]
    check("finetune.py", [*TUNE, *flags], 2, message)


@pytest.mark.parametrize("case", OTHERS)
def test_other_commands(case: str, check) -> None:
    recipe, flags, message = OTHERS[case]
    check(recipe, flags, 2, message)


@pytest.mark.parametrize(
    "recipe, flags, message",
    [
        ("pretrain.py", ["--model", "gpt2", "--machines", "lstm=x"], "machines"),
        ("finetune.py", ["--model", "used", "--train_file", "short.txt"], "--model"),
        ("finetune.py", ["--model", "used"], "--train_file or --dataset"),
        ("pretrain.py", [*TINY, "--eval_text", "a=\udcff.txt"], "--eval_text: cannot read \\udcff.txt"),
    ],
)
def test_a_process_of_its_own(recipe: str, flags: list[str], message: str, folder: Path, run_recipe) -> None:
    before = sorted(folder.rglob("*"))
    done = run_recipe(recipe, *flags, cwd=folder)
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert sorted(folder.rglob("*")) == before


def test_there_are_many_cases() -> None:
    assert sum(map(len, (PRETRAIN, WARM_AND, WARM_START, GO_ON, TUNED, WARMED, FINETUNE, DATASET, OTHERS))) >= 260
