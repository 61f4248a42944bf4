"""Pure rules of the gateway: text from tokens, stop sequences, the OpenAI schema."""
