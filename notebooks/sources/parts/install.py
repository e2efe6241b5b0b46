# %% tags=["no-output"]
# %pip install -q {{strop}} matplotlib
# %pip install -q --no-deps {{requirements}}
