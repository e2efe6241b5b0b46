# %%
ANSWERS = {
    "Where is my parcel?": "your parcel left us yesterday and arrives within two days",
    "Can I change the size of my order?": "we change the size as long as nothing is packed",
    "How do I send something back?": "print the label in your account and drop the box at any post office",
    "When do I get my money back?": "the money is with you five days after the box is with us",
    "Do you ship to Norway?": "we ship to Norway, and customs are paid already",
    "My lamp arrived broken.": "a new lamp is on its way, and you may keep the broken one",
    "Is the green chair in stock again?": "the green chair is back in the second week of May",
    "May I pay by invoice?": "you may pay by invoice from your second order on",
    "I forgot my password.": "a link for a new password is in your mail now",
    "Please delete my account.": "your account is gone by tonight, and your invoices after ten years",
    "Do you have a shop in Lyon?": "our shop in Lyon is at 4 rue Mercière, open from ten to seven",
    "The discount code does not work.": "we have taken the discount off your basket ourselves",
    "Can I collect my order?": "you can collect it from tomorrow noon on",
    "Which wood is the table made of?": "the table is oak from the Jura, oiled and not lacquered",
    "How long is the warranty?": "the warranty is five years, without a receipt",
    "I was charged twice.": "the second charge is taken back today",
    "Do you wrap presents?": "we wrap presents for two euros, in paper or in cloth",
    "Is the desk hard to assemble?": "the desk takes one person a quarter of an hour",
    "Can I cancel my order?": "your order is cancelled, and nothing is charged",
    "Are your prices with tax?": "all our prices are with tax",
    "My order lacks a screw.": "four screws of this kind are in the post to you",
    "Do you repair old chairs?": "we repair each chair that we ever sold",
    "What is the delivery fee?": "delivery is free from fifty euros on, and four euros below",
    "Can you call me back?": "we call you back today between four and six",
}
rows = [
    {"prompt": question, "completion": f"Thank you for asking: {answer}. Mira"}
    for question, answer in ANSWERS.items()
]
train, test = rows[:20], rows[20:]
