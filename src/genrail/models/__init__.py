"""Models: text encoders, the native model, language models, prompts, tiny doubles for tests."""
