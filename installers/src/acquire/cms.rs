//! Signed data (RFC 5652) as far as signatures of programs and timestamps need it. Sets are taken as they stand: signers of the
//! real world repeat certificates and do not sort them, which strict readers refuse.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// `[0]` and `[1]`, constructed.
const ZERO: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber::N0,
};
const ONE: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber::N1,
};

/// Content and who signed it.
#[derive(Debug)]
pub(super) struct SignedData<'a> {
    /// What the content is.
    pub(super) content_type: ObjectIdentifier,
    /// The content, tag and length included.
    pub(super) content: &'a [u8],
    /// DER, each.
    pub(super) certificates: Vec<&'a [u8]>,
    /// The only signer.
    pub(super) signer: Signer<'a>,
}

/// One signature.
#[derive(Debug)]
pub(super) struct Signer<'a> {
    /// The issuer's name, DER.
    pub(super) issuer: &'a [u8],
    /// The serial number's bytes.
    pub(super) serial: &'a [u8],
    /// Of the content and of the attributes.
    pub(super) digest: ObjectIdentifier,
    /// What is signed: the attributes as a set, DER.
    pub(super) message: Vec<u8>,
    signed: Vec<(ObjectIdentifier, AnyRef<'a>)>,
    unsigned: Vec<(ObjectIdentifier, AnyRef<'a>)>,
    /// The signature's bytes.
    pub(super) signature: &'a [u8],
}

impl<'a> SignedData<'a> {
    /// Reads a ContentInfo, to its last byte.
    pub(super) fn read(bytes: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(bytes)?;
        let data = reader.sequence(|info| {
            let kind: ObjectIdentifier = info.decode()?;
            if kind != SIGNED_DATA {
                return Err(Tag::ObjectIdentifier.value_error());
            }
            inner(info.decode()?, ZERO)
        })?;
        reader.finish(())?;
        let mut reader = SliceReader::new(data)?;
        reader.sequence(|fields| {
            let _version: AnyRef<'_> = fields.decode()?;
            let _digests: AnyRef<'_> = fields.decode()?;
            let (content_type, content) = fields.sequence(|content| {
                let kind: ObjectIdentifier = content.decode()?;
                Ok((kind, inner(content.decode()?, ZERO)?))
            })?;
            let mut certificates = Vec::new();
            let mut next: AnyRef<'a> = fields.decode()?;
            while next.tag() == ZERO || next.tag() == ONE {
                if next.tag() == ZERO {
                    certificates = each(next.value())?;
                }
                next = fields.decode()?;
            }
            let signers = match next.tag() {
                Tag::Set => each(next.value())?,
                other => return Err(other.value_error()),
            };
            let [signer] = signers[..] else {
                return Err(Tag::Set.length_error());
            };
            Ok(Self {
                content_type,
                content,
                certificates,
                signer: Signer::read(signer)?,
            })
        })
    }
}

impl<'a> Signer<'a> {
    fn read(bytes: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(bytes)?;
        reader.sequence(|fields| {
            let _version: AnyRef<'_> = fields.decode()?;
            let (issuer, serial) = fields.sequence(|id| {
                let issuer = id.tlv_bytes()?;
                let serial: AnyRef<'a> = id.decode()?;
                Ok((issuer, serial.value()))
            })?;
            let digest = fields.sequence(|algorithm| {
                let oid: ObjectIdentifier = algorithm.decode()?;
                skip(algorithm)?;
                Ok(oid)
            })?;
            let whole = fields.tlv_bytes()?;
            let attributes = inner_any(whole, ZERO)?;
            // Signed as the set that they are, not as the field that they stand in.
            let mut message = whole.to_vec();
            if let Some(tag) = message.first_mut() {
                *tag = 0x31;
            }
            let _algorithm: AnyRef<'_> = fields.decode()?;
            let signature: OctetStringRef<'a> = fields.decode()?;
            let unsigned = match fields.is_finished() {
                true => Vec::new(),
                false => attributes_of(inner_any(fields.tlv_bytes()?, ONE)?)?,
            };
            Ok(Self {
                issuer,
                serial,
                digest,
                message,
                signed: attributes_of(attributes)?,
                unsigned,
                signature: signature.as_bytes(),
            })
        })
    }

    /// The value of an attribute that is signed, if it is there once.
    pub(super) fn signed(&self, oid: ObjectIdentifier) -> Option<AnyRef<'a>> {
        let mut found = self.signed.iter().filter(|(name, _)| *name == oid);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(*value),
            _ => None,
        }
    }

    /// The first value of an attribute that is not.
    pub(super) fn unsigned(&self, oid: ObjectIdentifier) -> Option<AnyRef<'a>> {
        let mut found = self.unsigned.iter().filter(|(name, _)| *name == oid);
        found.next().map(|(_, value)| *value)
    }
}

/// What stands in an explicit tag, its own tag and length included.
fn inner(any: AnyRef<'_>, tag: Tag) -> der::Result<&[u8]> {
    any.tag().assert_eq(tag)?;
    Ok(any.value())
}

fn inner_any(bytes: &[u8], tag: Tag) -> der::Result<&[u8]> {
    inner(AnyRef::from_der(bytes)?, tag)
}

/// The elements of a set or sequence, DER each.
fn each(bytes: &[u8]) -> der::Result<Vec<&[u8]>> {
    let mut reader = SliceReader::new(bytes)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.tlv_bytes()?);
    }
    Ok(found)
}

/// Names and first values.
fn attributes_of(bytes: &[u8]) -> der::Result<Vec<(ObjectIdentifier, AnyRef<'_>)>> {
    let read = |one| {
        let mut reader = SliceReader::new(one)?;
        reader.sequence(|attribute| {
            let oid: ObjectIdentifier = attribute.decode()?;
            let values: AnyRef<'_> = attribute.decode()?;
            values.tag().assert_eq(Tag::Set)?;
            let values = each(values.value())?;
            let first = values.first().ok_or_else(|| Tag::Set.length_error())?;
            Ok((oid, AnyRef::from_der(first)?))
        })
    };
    each(bytes)?.into_iter().map(read).collect()
}

/// Fields that say nothing here.
pub(super) fn skip<'r>(fields: &mut impl Reader<'r>) -> der::Result<()> {
    while !fields.is_finished() {
        let _field: AnyRef<'_> = fields.decode()?;
    }
    Ok(())
}
