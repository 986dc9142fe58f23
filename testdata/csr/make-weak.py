#!/usr/bin/env python3
"""Makes the CSRs here whose private keys no tool would make: weak on purpose, with signatures that verify. Needs openssl; run it in an empty folder."""
import math, random, subprocess, tempfile

rng = random.Random(20171016)  # the same keys each time; they are nobody's


def is_prime(n, rounds=24):
    if n < 2 or any(n % p == 0 for p in (2, 3, 5, 7, 11, 13, 17, 19, 23)):
        return n in (2, 3, 5, 7, 11, 13, 17, 19, 23)
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for _ in range(rounds):
        x = pow(rng.randrange(2, n - 1), d, n)
        if x in (1, n - 1):
            continue
        for _ in range(s - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def next_prime(n):
    n |= 1
    while not is_prime(n):
        n += 2
    return n


def prime(bits):  # the two highest bits are set, so that two of them make a modulus of full size
    return next_prime(rng.getrandbits(bits) | 3 << bits - 2)


def roca_prime(bits):  # k*M + (65537^a mod M), M the product of the first 126 primes (RSA-2048 in the paper of 2017)
    primes = [p for p in range(2, 720) if all(p % q for q in range(2, math.isqrt(p) + 1))][:126]
    M = math.prod(primes)
    low = (3 << bits - 2) // M + 1
    while True:
        p = (low + rng.getrandbits(bits - 2 - M.bit_length())) * M + pow(65537, rng.randrange(M), M)
        if p.bit_length() == bits and is_prime(p):
            return p


def csr(name, config):
    with tempfile.TemporaryDirectory() as d:
        with open(d + "/conf", "w") as f:
            f.write("asn1=SEQUENCE:key\n[key]\n" + config)
        subprocess.run(["openssl", "asn1parse", "-genconf", d + "/conf", "-noout", "-out", d + "/key"], check=True)
        subprocess.run(["openssl", "req", "-new", "-key", d + "/key", "-keyform", "DER", "-subj", "/CN=DEMO-000001", "-outform", "DER", "-out", name + ".der"], check=True)


def rsa(name, p, q, e=65537):
    n, d = p * q, pow(e, -1, (p - 1) * (q - 1))
    numbers = [0, n, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)]
    csr(name, "".join(f"f{i}=INTEGER:{v}\n" for i, v in enumerate(numbers)))


def ec(name, curve, octets, d):
    csr(name, f"v=INTEGER:1\nd=FORMAT:HEX,OCTETSTRING:{d:0{2 * octets}x}\nc=EXPLICIT:0,OID:{curve}\n")


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
p = prime(1024)
rsa("weak-rsa2048-close-primes", p, next_prime(p + 2 + rng.getrandbits(500)))
rsa("weak-rsa2048-next-prime", p, next_prime(p + 2))
rsa("weak-rsa2048-roca", roca_prime(1024), roca_prime(1024))
rsa("weak-rsa2048-small-factor", 701, next_prime(rng.getrandbits(2039) | 3 << 2037))
rsa("weak-rsa2048-exponent-large", p, prime(1024), 2**32 + 15)
rsa("weak-rsa2047", prime(1024), next_prime(rng.getrandbits(1023) | 3 << 1021))
ec("weak-p256-private-key-1", "prime256v1", 32, 1)
ec("weak-p256-private-key-minus-2", "prime256v1", 32, P256_ORDER - 2)
ec("weak-p384-private-key-7", "secp384r1", 48, 7)
