"""The config of a Norma model.

`norm_plan` says where its norms are: {"embedding": site, "final": site, "layers": [layer, ...]}, where a layer is
{"attention": wiring, "mlp": wiring, "inner": {name: site}}. A site is {"kind": "rms" | "layer", "eps": float,
"gain_init": float}, or null where there is no norm; q, k, v and context have a "granularity" too. An inner site that is
left out has no norm. A wiring holds every factor and site of

    u = in_gain * in(x)      y = out(F(u))      x' = sum(alpha * skip + beta * y)

where skip is "stream" (x), "normed" (u) or "block" (the input of the whole block). gain_init, branch_init_scale and
scaled_ffn describe how training began; nothing here reads them.
"""

import math

from transformers import PretrainedConfig

ROPE_TYPES = ("default", "yarn")


def pre_norm_plan(num_layers, eps=1e-5):
    """The plan of a plain Pre-Norm model."""
    norm = {"kind": "rms", "eps": eps, "gain_init": 1.0}
    sites = {"in": norm, "out": None, "sum": None, "skip": "stream"}
    wiring = {**sites, "in_gain": 1.0, "alpha": 1.0, "beta": 1.0, "branch_init_scale": 1.0}
    layer = {"attention": wiring, "mlp": wiring, "inner": {}}
    return {"embedding": None, "final": norm, "scaled_ffn": "all", "layers": [layer] * num_layers}


class NormaConfig(PretrainedConfig):
    model_type = "norma"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(
        self,
        vocab_size=8192,  # rows of the embedding and the head
        unpadded_vocab_size=None,  # ids of the tokenizer; the other rows are trained like all others
        hidden_size=256,
        num_hidden_layers=6,
        intermediate_size=704,
        max_position_embeddings=512,
        norm_plan=None,
        # attention: "gqa", or "mla" (DeepSeek's latent attention), which has widths of its own
        attention_kind="gqa",
        num_attention_heads=8,
        num_key_value_heads=None,
        head_dim=None,
        q_lora_rank=None,
        kv_lora_rank=None,
        qk_nope_head_dim=None,
        qk_rope_head_dim=None,
        v_head_dim=None,
        clip_qkv=None,
        # which channels RoPE rotates together: true for neighbours (2i, 2i + 1), false for (i, i + n / 2)
        rope_interleave=False,
        rope_theta=10000.0,
        rope_parameters=None,
        rope_scaling=None,
        # experts, in the layers whose kind is "moe"
        mlp_kinds=None,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=704,
        n_shared_experts=0,
        scoring_func="softmax",
        norm_topk_prob=False,
        routed_scaling_factor=1.0,
        n_group=1,
        topk_group=1,
        group_score="max",
        selection_bias=False,
        router_in_fp32=False,
        use_cache=True,
        initializer_range=0.02,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.unpadded_vocab_size = vocab_size if unpadded_vocab_size is None else unpadded_vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.intermediate_size = intermediate_size
        self.max_position_embeddings = max_position_embeddings
        self.norm_plan = pre_norm_plan(num_hidden_layers) if norm_plan is None else norm_plan

        self.attention_kind = attention_kind
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        if attention_kind == "mla":
            head_dim = qk_nope_head_dim + qk_rope_head_dim
        self.head_dim = hidden_size // num_attention_heads if head_dim is None else head_dim
        self.q_lora_rank = q_lora_rank
        self.kv_lora_rank = kv_lora_rank
        self.qk_nope_head_dim = qk_nope_head_dim
        self.qk_rope_head_dim = qk_rope_head_dim
        self.v_head_dim = v_head_dim
        self.clip_qkv = clip_qkv
        self.rope_interleave = rope_interleave
        # Versions 4 and 5 of transformers name this section differently; a folder holds both spellings.
        self.rope_parameters = dict(rope_scaling or rope_parameters or {"rope_type": "default"})
        self.rope_parameters.setdefault("rope_theta", rope_theta)
        self.rope_theta = self.rope_parameters["rope_theta"]
        self.rope_parameters["rope_type"] = self.rotary_kind()

        self.mlp_kinds = ["dense"] * num_hidden_layers if mlp_kinds is None else mlp_kinds
        if "moe" in self.mlp_kinds:  # transformers saves every attribute, and a dense model has none of these
            self.num_experts = num_experts
            self.num_experts_per_tok = num_experts_per_tok
            self.moe_intermediate_size = moe_intermediate_size
            self.n_shared_experts = n_shared_experts
            self.scoring_func = scoring_func
            self.norm_topk_prob = norm_topk_prob
            self.routed_scaling_factor = routed_scaling_factor
            self.n_group = n_group
            self.topk_group = topk_group
            self.group_score = group_score
            self.selection_bias = selection_bias
            self.router_in_fp32 = router_in_fp32

        self.use_cache = use_cache
        self.initializer_range = initializer_range
        super().__init__(
            tie_word_embeddings=tie_word_embeddings,
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            **kwargs,
        )

    def rotary_kind(self):
        rope = self.rope_parameters
        name = rope.get("rope_type") or rope.get("type") or "default"
        if name not in ROPE_TYPES:
            raise ValueError(f"rope_parameters: rope_type {name!r} is not supported; allowed: {', '.join(ROPE_TYPES)}")
        return name

    def rotary(self):
        """Returns (frequency of each pair in radians per position, factor on cosines and sines, scale of q k^T).

        YaRN (arXiv 2309.00071) with the factors of DeepSeek-V2 (arXiv 2405.04434).
        """
        rope = self.rope_parameters
        width = self.qk_rope_head_dim if self.attention_kind == "mla" else self.head_dim
        theta, scale = rope["rope_theta"], self.head_dim**-0.5
        frequencies = [theta ** (-2.0 * i / width) for i in range(width // 2)]
        if self.rotary_kind() != "yarn":
            return frequencies, 1.0, scale

        factor, length = rope["factor"], rope["original_max_position_embeddings"]

        def pair_of_turns(turns):  # the index, as a real number, of the pair that makes so many turns within the length
            return width * math.log(length / (2.0 * math.pi * turns)) / (2.0 * math.log(theta))

        def magnitude(mscale):
            return 1.0 if factor <= 1.0 else 0.1 * mscale * math.log(factor) + 1.0

        low = max(math.floor(pair_of_turns(rope.get("beta_fast") or 32.0)), 0)
        high = min(math.ceil(pair_of_turns(rope.get("beta_slow") or 1.0)), width - 1)
        span = high - low if high != low else 0.001
        for i in range(width // 2):
            slowed = min(max((i - low) / span, 0.0), 1.0)
            frequencies[i] *= (1.0 - slowed) + slowed / factor
        mscale, of_all = rope.get("mscale") or 0.0, rope.get("mscale_all_dim") or 0.0
        table = magnitude(mscale) / magnitude(of_all) if mscale and of_all else magnitude(1.0)
        if rope.get("attention_factor") is not None:
            table = rope["attention_factor"]
        return frequencies, table, scale * magnitude(of_all) ** 2 if of_all else scale
