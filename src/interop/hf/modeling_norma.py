"""A transformer whose norms are placed by data (config.norm_plan).

There is one residual equation, NormaResidual; attention and the MLP are branches of it. Shapes: B batch, T time,
S time of the keys, D model, H query heads, K key-value heads, E width of a head, N = B * T tokens.
"""

import contextlib
import inspect

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple

from .configuration_norma import NormaConfig


TINY = torch.finfo(torch.float32).tiny  # keeps a row of zeros zero when eps is 0


def wide(x):
    """Statistics, rotations and softmax are computed in float32, or in float64 if the input is float64."""
    return x.double() if x.dtype == torch.float64 else x.float()


# ---- Norms -----------------------------------------------------------------------------------------------------------


class NormaNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        """Norms over the last dimension, or over both of heads [..., H, E] if the gain has all their channels."""
        if x.shape[-1] != self.weight.numel():
            return self.norm(x.flatten(-2)).view(x.shape)
        return self.norm(x)


class NormaRMSNorm(NormaNorm):
    def norm(self, x):  # rounded to x's type before the gain
        mean_square = wide(x).square().mean(-1, keepdim=True)
        factor = (mean_square + self.eps).clamp_min(TINY).rsqrt()
        return (wide(x) * factor).to(x.dtype) * self.weight


class NormaLayerNorm(NormaNorm):
    def norm(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, None, max(self.eps, TINY))


def make_norm(site, width, heads=1):
    """The norm of a site, for vectors or for heads of this width; the identity where there is none."""
    if site is None:
        return nn.Identity()
    if site.get("granularity") == "whole":
        width = heads * width
    return {"rms": NormaRMSNorm, "layer": NormaLayerNorm}[site["kind"]](width, site["eps"])


# ---- The residual equation -------------------------------------------------------------------------------------------


class NormaResidual(nn.Module):
    """u = g N_in(x)    y = N_out(F(u))    x' = N_sum(alpha skip + beta y)"""

    def __init__(self, wiring, width):
        super().__init__()
        self.norm_in = make_norm(wiring["in"], width)
        self.norm_out = make_norm(wiring["out"], width)
        self.norm_sum = make_norm(wiring["sum"], width)
        self.skip = wiring["skip"]
        self.in_gain, self.alpha, self.beta = wiring["in_gain"], wiring["alpha"], wiring["beta"]

    def forward(self, x, block_input, branch):
        u = self.norm_in(x)
        if self.in_gain != 1.0:
            u = u * self.in_gain
        y = self.norm_out(branch(u))
        skip = {"stream": x, "normed": u, "block": block_input}[self.skip]
        if self.alpha != 1.0:
            skip = skip * self.alpha
        return self.norm_sum(torch.add(skip, y, alpha=self.beta))


# ---- Attention -------------------------------------------------------------------------------------------------------


def rotary_table(config, position_ids, dtype):
    """Cosines and sines of every position, [B, T, 1, n / 2]. Each pass computes them: that is cheap, and a buffer would
    not survive loading, where modules are built without memory."""
    frequencies, factor, _ = config.rotary()
    exact = torch.float32 if position_ids.device.type == "mps" else torch.float64
    frequencies = torch.tensor(frequencies, dtype=exact, device=position_ids.device)
    angles = (position_ids.to(exact).unsqueeze(-1) * frequencies).unsqueeze(2)
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    return (angles.cos() * factor).to(kept), (angles.sin() * factor).to(kept)


def rotate(x, table, adjacent):
    """Rotates pairs of channels of x [B, T, heads, n]; each result keeps the index of its input."""
    cos, sin = table
    if adjacent:
        a, b = wide(x).unflatten(-1, (-1, 2)).unbind(-1)
    else:
        a, b = wide(x).chunk(2, -1)
    rotated = (a * cos - b * sin, b * cos + a * sin)
    return (torch.stack(rotated, -1).flatten(-2) if adjacent else torch.cat(rotated, -1)).to(x.dtype)


def eager_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Plain softmax(scaling q k^T + mask) v of [B, heads, T, E], the result [B, T, H, E]."""
    key = key.repeat_interleave(module.num_key_value_groups, 1)
    value = value.repeat_interleave(module.num_key_value_groups, 1)
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = wide(scores).softmax(-1).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class NormaAttention(nn.Module):
    """Grouped-query attention, with norms on q and k (before RoPE), on v and on the context."""

    is_causal = True

    def __init__(self, config, inner, layer_idx):
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        self.value_dim = config.v_head_dim if config.attention_kind == "mla" else config.head_dim
        self.num_key_value_groups = self.heads // self.kv_heads
        self.scaling = config.rotary()[2]
        self.make_projections(config, inner)
        self.o_proj = nn.Linear(self.heads * self.value_dim, config.hidden_size, bias=False)
        self.q_norm = make_norm(inner.get("q"), self.head_dim, self.heads)
        self.v_norm = make_norm(inner.get("v"), self.value_dim, self.kv_heads)
        self.context_norm = make_norm(inner.get("context"), self.value_dim, self.heads)

    def make_projections(self, config, inner):
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=False)
        self.k_norm = make_norm(inner.get("k"), self.head_dim, self.kv_heads)

    def remember(self, cache, *states):
        """Adds two tensors of the new tokens, [B, T, heads, n], to the cache; returns those of all tokens, with S."""
        if cache is None:
            return states
        return (x.transpose(1, 2) for x in cache.update(*(x.transpose(1, 2) for x in states), self.layer_idx))

    def project(self, u, table, cache):
        """u [B, T, D] -> q [B, T, H, E], k and v [B, S, K, E], normed, q and k rotated."""
        q, k, v = (projection(u) for projection in (self.q_proj, self.k_proj, self.v_proj))
        if self.config.clip_qkv is not None:
            q, k, v = (x.clamp(-self.config.clip_qkv, self.config.clip_qkv) for x in (q, k, v))
        q, k, v = (x.unflatten(-1, (-1, self.head_dim)) for x in (q, k, v))
        q, k = (rotate(x, table, self.config.rope_interleave) for x in (self.q_norm(q), self.k_norm(k)))
        return q, *self.remember(cache, k, self.v_norm(v))

    def forward(self, u, table, attention_mask, past_key_values=None, attentions=None, **kwargs):
        """u [B, T, D] -> [B, T, D]. Eager attention appends its weights [B, H, T, S] to the list `attentions`."""
        q, k, v = (x.transpose(1, 2) for x in self.project(u, table, past_key_values))  # [B, heads, T or S, E]
        attend = eager_attention
        if self.config._attn_implementation != "eager":
            attend = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        mixed, weights = attend(self, q, k, v, attention_mask, scaling=self.scaling, dropout=0.0, **kwargs)
        if attentions is not None:
            attentions.append(weights)
        mixed = mixed.reshape(*u.shape[:2], self.heads, self.value_dim)
        return self.o_proj(self.context_norm(mixed).flatten(2))


class NormaLatentAttention(NormaAttention):
    """Latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads come from one latent per token,
    which has a norm of its own, and all heads share the part of the key that RoPE rotates. The cache holds these two.
    Where the shared part has a norm (rope_key), k norms the other part only; else k norms both parts as one vector, and
    the cache holds keys and values."""

    def make_projections(self, config, inner):
        self.nope, self.rope, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
        q_width = self.heads * self.head_dim
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(config.hidden_size, q_width, bias=False)
        else:
            self.q_a_proj = nn.Linear(config.hidden_size, config.q_lora_rank, bias=False)
            self.q_a_layernorm = make_norm(inner.get("q_latent"), config.q_lora_rank)
            self.q_b_proj = nn.Linear(config.q_lora_rank, q_width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(config.hidden_size, rank + self.rope, bias=False)
        self.kv_a_layernorm = make_norm(inner.get("kv_latent"), rank)
        self.kv_b_proj = nn.Linear(rank, self.heads * (self.nope + self.value_dim), bias=False)
        self.norms_whole_keys = inner.get("k") is not None and inner.get("rope_key") is None
        self.k_rope_norm = make_norm(inner.get("rope_key"), self.rope)
        self.k_norm = make_norm(inner.get("k"), self.head_dim if self.norms_whole_keys else self.nope, self.heads)

    def rotate_tail(self, x, table):
        head, tail = x.split((self.nope, self.rope), -1)
        return torch.cat((head, rotate(tail, table, self.config.rope_interleave)), -1)

    def expand(self, latent):
        """Latents [B, S, R] after their norm -> parts of keys without RoPE and values, [B, S, H, n] each."""
        return self.kv_b_proj(latent).unflatten(-1, (self.heads, -1)).split((self.nope, self.value_dim), -1)

    def project(self, u, table, cache):
        if self.config.q_lora_rank is None:
            q = self.q_proj(u)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(u)))
        q = self.rotate_tail(self.q_norm(q.unflatten(-1, (self.heads, -1))), table)

        latent, shared = self.kv_a_proj_with_mqa(u).split((self.config.kv_lora_rank, self.rope), -1)
        latent, shared = self.kv_a_layernorm(latent), shared.unsqueeze(2)  # [B, T, R], [B, T, 1, rope]
        if self.norms_whole_keys:
            k, v = self.expand(latent)
            k = self.k_norm(torch.cat((k, shared.expand(-1, -1, self.heads, -1)), -1))
            return q, *self.remember(cache, self.rotate_tail(k, table), self.v_norm(v))
        shared = rotate(self.k_rope_norm(shared), table, self.config.rope_interleave)
        latent, shared = self.remember(cache, latent.unsqueeze(2), shared)
        k, v = self.expand(latent.squeeze(2))
        return q, torch.cat((self.k_norm(k), shared.expand(-1, -1, self.heads, -1)), -1), self.v_norm(v)


# ---- MLP and experts -------------------------------------------------------------------------------------------------


class NormaMLP(nn.Module):
    def __init__(self, config, width):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, u):
        return self.down_proj(F.silu(self.gate_proj(u)) * self.up_proj(u))


class NormaRouter(nn.Module):
    """Chooses the experts of each token and their weights: by softmax scores (OLMoE), or by sigmoid scores with groups
    and a bias that is used for choosing only (DeepSeek-V3, arXiv 2412.19437). It is no nn.Linear, because adapters and
    quantizers replace those."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        if config.selection_bias:
            self.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts))

    def forward(self, x):
        """x [N, D] -> experts [N, k], weights [N, k]."""
        config = self.config
        logits = self.logits(x)
        scores = logits.softmax(-1) if config.scoring_func == "softmax" else logits.sigmoid()
        experts = self.choose(scores)
        weights = scores.gather(1, experts)
        if config.norm_topk_prob:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return experts, weights * config.routed_scaling_factor

    def logits(self, x):
        if not self.config.router_in_fp32:
            return wide(F.linear(x, self.weight))
        with contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            return F.linear(wide(x), wide(self.weight))

    def choose(self, scores):
        config = self.config
        if config.selection_bias:
            scores = scores + self.e_score_correction_bias.to(scores.dtype)
        if config.topk_group < config.n_group:
            grouped = scores.unflatten(-1, (config.n_group, -1))
            worth = grouped.topk(2, -1).values.sum(-1) if config.group_score == "top2" else grouped.amax(-1)
            outside = torch.ones_like(worth, dtype=torch.bool).scatter(1, first_best(worth, config.topk_group), False)
            scores = grouped.masked_fill(outside.unsqueeze(-1), float("-inf")).flatten(1)
        return first_best(scores, config.num_experts_per_tok)


def first_best(values, count):
    """Indices of the largest values of each row; of equal values the first."""
    return values.sort(dim=-1, descending=True, stable=True).indices[:, :count]


class NormaExperts(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate = NormaRouter(config)
        width = config.moe_intermediate_size
        self.experts = nn.ModuleList(NormaMLP(config, width) for _ in range(config.num_experts))
        self.shared_experts = NormaMLP(config, config.n_shared_experts * width) if config.n_shared_experts else None

    def forward(self, u):
        x = u.flatten(0, 1)  # [N, D]
        chosen, weights = self.gate(x)
        results = x.new_zeros(*chosen.shape, x.shape[-1])  # [N, k, D]
        for index, expert in enumerate(self.experts):
            tokens, ranks = torch.where(chosen == index)
            results[tokens, ranks] = expert(x[tokens]).to(x.dtype)
        y = (wide(results) * weights.unsqueeze(-1)).sum(1).to(x.dtype).view(u.shape)
        return y if self.shared_experts is None else y + self.shared_experts(u)


# ---- The model -------------------------------------------------------------------------------------------------------


class NormaLayer(GradientCheckpointingLayer):
    def __init__(self, config, layer_idx):
        super().__init__()
        policy = config.norm_plan["layers"][layer_idx]
        attention = NormaLatentAttention if config.attention_kind == "mla" else NormaAttention
        self.self_attn = attention(config, policy["inner"], layer_idx)
        dense = config.mlp_kinds[layer_idx] == "dense"
        self.mlp = NormaMLP(config, config.intermediate_size) if dense else NormaExperts(config)
        self.attn_residual = NormaResidual(policy["attention"], config.hidden_size)
        self.mlp_residual = NormaResidual(policy["mlp"], config.hidden_size)

    def forward(self, x, **context):
        y = self.attn_residual(x, x, lambda u: self.self_attn(u, **context))
        return self.mlp_residual(y, x, self.mlp)


class NormaPreTrainedModel(PreTrainedModel):
    config_class = NormaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["NormaLayer"]
    _skip_keys_device_placement = ["past_key_values", "attentions"]
    _supports_sdpa = True
    _supports_attention_backend = True

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, NormaRouter):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if self.config.selection_bias:
                nn.init.zeros_(module.e_score_correction_bias)

    def post_init(self):
        super().post_init()
        # Set only here, because transformers 4 requires a parameter of that name, and this is a buffer.
        if getattr(self.config, "selection_bias", False):
            self._keep_in_fp32_modules_strict = {"e_score_correction_bias"}


def causal_mask(**offered):
    """Calls create_causal_mask, whose arguments have other names in other versions of transformers."""
    offered["input_embeds"] = offered["inputs_embeds"]
    return create_causal_mask(**{name: value for name, value in offered.items() if name in _MASK_ARGUMENTS})


_MASK_ARGUMENTS = inspect.signature(create_causal_mask).parameters


class NormaModel(NormaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_norm = make_norm(config.norm_plan["embedding"], config.hidden_size)
        self.layers = nn.ModuleList(NormaLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = make_norm(config.norm_plan["final"], config.hidden_size)
        self.gradient_checkpointing = False
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        **kwargs,
    ):
        output_attentions, output_hidden_states = self.wanted_outputs(output_attentions, output_hidden_states)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        cache_position = torch.arange(x.shape[1], device=x.device) + seen
        if position_ids is None:
            position_ids = cache_position.unsqueeze(0)
        mask = causal_mask(
            config=self.config,
            inputs_embeds=x,
            attention_mask=attention_mask,
            cache_position=cache_position,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        table = rotary_table(self.config, position_ids, x.dtype)

        x = self.embed_norm(x)
        streams, attentions = [x], [] if output_attentions else None
        context = {"table": table, "attention_mask": mask, "past_key_values": past_key_values, "attentions": attentions}
        for layer in self.layers:
            x = layer(x, **context, **kwargs)
            streams.append(x)
        x = self.norm(x)
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=past_key_values if use_cache else None,
            hidden_states=(*streams[:-1], x) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def wanted_outputs(self, attentions, hidden_states):
        """What the call asks for, or else the config. ValueError if attention weights are not computed."""
        attentions = self.config.output_attentions if attentions is None else attentions
        kind = self.config._attn_implementation
        if attentions and kind != "eager":
            raise ValueError(f"output_attentions=True needs attn_implementation='eager'; got {kind!r}")
        return attentions, self.config.output_hidden_states if hidden_states is None else hidden_states


class NormaForCausalLM(NormaPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = NormaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        **kwargs,
    ):
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            return_dict=True,  # whatever the config says
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )


__all__ = ["NormaForCausalLM", "NormaModel", "NormaPreTrainedModel"]
