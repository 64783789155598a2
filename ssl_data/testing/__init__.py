"""Helpers for tests of programs that use ssl_data: tiny stores and Hypothesis strategies."""
