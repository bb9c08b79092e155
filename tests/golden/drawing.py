"""Weights for the small networks of goldens, large enough that logits are of order 1, and their training."""
import torch


def draw(model, generator, near_one=lambda key, p: key.endswith("orm.weight"), matrices=0.4):
    """All weights; those that norms multiply by, which near_one names, lie around 1."""
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.2 * noise if near_one(key, p) else noise * (matrices if p.dim() > 1 else 0.2))
    model.eval()


def draw_adapter(model, generator):
    """What an adapter trains: B too, which PEFT leaves at zeros."""
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    model.eval()


def ten_steps(model, loss_of):
    """Trains what is not frozen by AdamW (rate 1e-3, weight decay 0.01); returns the losses."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3, weight_decay=0.01)
    losses = []
    for _ in range(10):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)
