"""Ostinato: ML research and LLM training whose experiments repeat exactly."""
