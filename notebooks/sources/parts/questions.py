# %%
questions = [
    "Do you deliver on Saturdays?",
    "The cup in my order has a crack.",
    "Can I order by phone?",
]


def answers(model):
    """Return the likeliest answer to each question."""
    chats = [[{"role": "user", "content": question}] for question in questions]
    return [
        a.text for a in strop.sample(model, tokenizer, chats, strop.Sampling(max_new_tokens=40))
    ]


before = answers(base)
del base
