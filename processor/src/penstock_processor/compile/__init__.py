"""Stage 5: logical plan to operators. `build` is the only file that knows both."""
