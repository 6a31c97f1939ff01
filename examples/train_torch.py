"""Train a plain torch.nn model from shards through a DataLoader.

streamtrain convert mnist_train.csv train
streamtrain convert mnist_test.csv test
python examples/train_torch.py train test
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader

from streamtrain.adapters.torch_dataset import ShardDataset


def accuracy(model: nn.Module, data: ShardDataset) -> float:
    """Return the share of the rows that the model gets right."""
    right = rows = 0
    with torch.no_grad():
        for x, y in DataLoader(data, batch_size=None):
            right += int((model(x).argmax(1) == y).sum())
            rows += len(y)
    return right / rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(0)
    train = ShardDataset(options.train, batch_size=64)
    test = ShardDataset(options.test, like=train)  # the classes and the pixel range of the training data
    x, _ = next(iter(train))
    model = nn.Sequential(nn.Linear(x.shape[1], 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(train, batch_size=None, num_workers=options.workers)
    for epoch in range(1, options.epochs + 1):
        train.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        print(f"epoch {epoch}  test accuracy {accuracy(model, test):.4f}")


if __name__ == "__main__":
    main()
