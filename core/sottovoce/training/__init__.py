"""Distillation and fine-tuning."""
