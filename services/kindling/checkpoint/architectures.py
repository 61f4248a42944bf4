"""Which models Kindling runs, by the class that `config.json` names."""

SUPPORTED_ARCHITECTURES = frozenset(
    {
        "CohereForCausalLM",
        "Ernie4_5ForCausalLM",
        "GPT2LMHeadModel",
        "GPTNeoXForCausalLM",
        "GemmaForCausalLM",
        "Glm4ForCausalLM",
        "GlmForCausalLM",
        "GraniteForCausalLM",
        "HeliumForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "OPTForCausalLM",
        "Olmo2ForCausalLM",
        "Olmo3ForCausalLM",
        "OlmoForCausalLM",
        "OlmoeForCausalLM",
        "Phi3ForCausalLM",
        "PhiForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "SeedOssForCausalLM",
        "SmolLM3ForCausalLM",
        "Starcoder2ForCausalLM",
    }
)
"""Those whose attention goes through transformers' ``AttentionInterface`` with nothing but a scale and a window, as the
engine's tests prove for each."""
