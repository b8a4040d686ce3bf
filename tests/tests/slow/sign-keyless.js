// Signs FILE as sigstore does, with a private Fulcio, certificate log and Rekor of the project's own test kit:
//   node sign-keyless.js FILE BUNDLE TRUSTED_ROOT IDENTITY ISSUER
//   node sign-keyless.js FILE BUNDLE TRUSTED_ROOT key KEY.pem: by a key of one's own, in a log as well
const crypto = require("crypto");
const fs = require("fs");
const { fulcioHandler, initializeCA, initializeCTLog, initializeTLog, rekorHandler } = require("@sigstore/mock");
const { FulcioSigner, MessageSignatureBundleBuilder, RekorWitness } = require("@sigstore/sign");
const { bundleToJSON } = require("@sigstore/bundle");
const { TrustedRoot, HashAlgorithm, PublicKeyDetails } = require("@sigstore/protobuf-specs");
const nock = require("nock");

const [file, bundlePath, rootPath, identity, issuer] = process.argv.slice(2);
const host = "https://sigstore.example";
const part = (object) => Buffer.from(JSON.stringify(object)).toString("base64url");
const token = `${part({ alg: "none" })}.${part({ sub: identity, iss: issuer, email: identity, email_verified: true })}.`;
const pair = (namedCurve) => crypto.generateKeyPairSync("ec", { namedCurve });
const byKey = (key) => ({
  sign: async (data) => ({
    signature: crypto.sign("sha256", data, key),
    key: { $case: "publicKey", hint: "", publicKey: crypto.createPublicKey(key).export({ type: "spki", format: "pem" }) },
  }),
});
const serve = (handler) =>
  nock(host).post(handler.path).reply(async (_, body) => {
    const { statusCode, response, contentType } = await handler.fn(typeof body === "string" ? body : JSON.stringify(body));
    return [statusCode, response, { "Content-Type": contentType || "text/plain" }];
  });

(async () => {
  const ctlog = await initializeCTLog(pair("P-256"));
  const ca = await initializeCA(pair("P-384"), ctlog);
  const tlog = await initializeTLog(host, pair("P-256"));
  serve(fulcioHandler(ca));
  serve(rekorHandler(tlog));
  const signer = identity === "key"
    ? byKey(crypto.createPrivateKey(fs.readFileSync(issuer)))
    : new FulcioSigner({ fulcioBaseURL: host, identityProvider: { getToken: async () => token } });
  const builder = new MessageSignatureBundleBuilder({ signer, witnesses: [new RekorWitness({ rekorBaseURL: host })] });
  const bundle = await builder.create({ data: fs.readFileSync(file) });
  fs.writeFileSync(bundlePath, JSON.stringify(bundleToJSON(bundle)));
  const validFor = { start: new Date(Date.now() - 86400000) };
  const log = (publicKey, keyId) => ({
    baseUrl: host,
    hashAlgorithm: HashAlgorithm.SHA2_256,
    publicKey: { rawBytes: publicKey, keyDetails: PublicKeyDetails.PKIX_ECDSA_P256_SHA_256, validFor },
    logId: { keyId },
  });
  const root = TrustedRoot.toJSON({
    mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    tlogs: [log(tlog.publicKey, crypto.createHash("sha256").update(tlog.publicKey).digest())],
    ctlogs: [log(ctlog.publicKey, Buffer.from(ctlog.logID))],
    certificateAuthorities: [{
      subject: { organization: "test", commonName: "test" },
      uri: host,
      certChain: { certificates: [{ rawBytes: Buffer.from(ca.rootCertificate) }] },
      validFor,
    }],
    timestampAuthorities: [],
  });
  fs.writeFileSync(rootPath, JSON.stringify(root));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
