"""Parts of `rate_accuracy`: the tasks, the contenders, the curves and the picture."""
