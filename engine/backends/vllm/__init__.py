"""The vLLM backend: the same condition inside an unmodified vLLM, through its own extension points.

The server projects a condition once (`models.llama`), so every adapter family and its rules stay in one place; what
travels with the request are keys and values. A table in vLLM's model holds them by slot; the two hooks tell which token
reads which slot: `row_tracker` on the V1 runner (CPU), `model_state` on the V2 runner (GPU).
Slot 0 is zero: text only.
"""
