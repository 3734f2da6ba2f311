"""Reads and writes RecordIO and verification sets from their published descriptions, with nothing of turl: what the tests compare with.

usage: independent.py write-rec DIR     train.rec, train.idx, property: images b"identity 0 image 0", ... of 3 identities, InsightFace layout
       independent.py read-rec FILE     prints "label hex-of-image" for each image, by the index beside it
       independent.py write-bin FILE PROTOCOL KIND    bytes, bytearray or latin (as Python 2 strings are); 4 pairs
       independent.py read-bin FILE     prints "same hex hex" for each pair
"""
import os, pickle, struct, sys

MAGIC = 0xCED7230A


def write_payload(file, payload):
    """One logical record, cut at aligned magic words as dmlc-core does."""
    start, pieces = file.tell(), []
    begin = 0
    for at in range(0, len(payload) // 4 * 4, 4):
        if struct.unpack_from("<I", payload, at)[0] == MAGIC:
            pieces.append(payload[begin:at])
            begin = at + 4
    pieces.append(payload[begin:])
    for i, piece in enumerate(pieces):
        flag = 0 if len(pieces) == 1 else 1 if i == 0 else 3 if i == len(pieces) - 1 else 2
        file.write(struct.pack("<II", MAGIC, flag << 29 | len(piece)) + piece + b"\0" * (-len(piece) % 4))
    return start


def header(labels, number):
    if len(labels) == 1:
        return struct.pack("<IfQQ", 0, labels[0], number, 0)
    return struct.pack("<IfQQ", len(labels), 0.0, number, 0) + struct.pack("<%df" % len(labels), *labels)


def image_bytes(identity, image):
    text = b"identity %d image %d " % (identity, image)
    # Some hold the magic word, at a multiple of four bytes of the payload (after a header of 24 bytes) and not at one.
    return text.ljust(24 + image % 2 * 2, b".") + struct.pack("<I", MAGIC) * (image % 3) + b"!" * identity


def write_rec(folder):
    groups = [[image_bytes(i, j) for j in range(i + 2)] for i in range(3)]
    total = sum(map(len, groups))
    index, number, ranges = [], 1, []
    with open(os.path.join(folder, "train.rec"), "wb") as file:
        index.append((0, write_payload(file, header([total + 1, total + 1 + len(groups)], 0))))
        for label, group in enumerate(groups):
            ranges.append((number, number + len(group)))
            for image in group:
                index.append((number, write_payload(file, header([label], number) + image)))
                number += 1
        for begin, end in ranges:
            index.append((number, write_payload(file, header([begin, end], number))))
            number += 1
    with open(os.path.join(folder, "train.idx"), "w") as file:
        file.writelines("%d\t%d\n" % entry for entry in index)
    with open(os.path.join(folder, "property"), "w") as file:
        file.write("3,112,112")


def read_payload(data, at):
    out = []
    while True:
        magic, word = struct.unpack_from("<II", data, at)
        assert magic == MAGIC
        length, flag = word & 0x1FFFFFFF, word >> 29
        out.append(data[at + 8 : at + 8 + length])
        at += 8 + length + -length % 4
        if flag in (0, 3):
            return struct.pack("<I", MAGIC).join(out)


def unpack(payload):
    flag, label = struct.unpack_from("<If", payload)
    return (list(struct.unpack_from("<%df" % flag, payload, 24)), payload[24 + 4 * flag :]) if flag else ([label], payload[24:])


def read_rec(path):
    data = open(path, "rb").read()
    index = dict(tuple(map(int, line.split("\t"))) for line in open(path[:-4] + ".idx"))
    first = unpack(read_payload(data, index[0]))[0]
    for number in range(1, int(first[0])):
        labels, image = unpack(read_payload(data, index[number]))
        print(int(labels[0]), image.hex())


def write_bin(path, protocol, kind):
    images = [image_bytes(i % 3, i) for i in range(8)]
    if kind == "bytearray":
        images = [bytearray(image) for image in images]
    pickled = (images, [i % 2 == 0 for i in range(4)])
    open(path, "wb").write(pickle.dumps(pickled, protocol=int(protocol)))


def read_bin(path):
    images, same = pickle.load(open(path, "rb"), encoding="bytes")
    for i, flag in enumerate(same):
        print(int(flag), images[2 * i].hex(), images[2 * i + 1].hex())


if __name__ == "__main__":
    {"write-rec": write_rec, "read-rec": read_rec, "write-bin": write_bin, "read-bin": read_bin}[sys.argv[1]](*sys.argv[2:])
