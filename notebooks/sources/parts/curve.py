# %%
import matplotlib.pyplot as plt

points = [line for line in run.log if "held_out_loss" in line]
_, axes = plt.subplots(figsize=(5, 3))
axes.plot([p["step"] for p in points], [p["held_out_loss"] for p in points], marker="o")
axes.set(xlabel="step", ylabel="loss on held-out rows", ylim=(0, None))
plt.show()
