//! Mirrors: a directory or a bucket in the layout of AWS's own, which any web server can offer and `--mirror` as well as AWS's
//! tools can use. Whatever a reader sees at any moment is whole: a package comes after its signature, and VERSION last.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig, UpdateVersion, WriteMultipart,
};
use sha2::{Digest, Sha256};
use ssmbake_manifests::{AgentVersion, Channel, PackageFormat, hex};

use super::{LockFile, Locked, Supplier, SupplyError, Target};
use crate::acquire::Verified;
use crate::error::IoError;
use crate::tls::{self, Trust};

/// Of an upload, bytes: S3 takes no smaller ones but the last.
const PART: usize = 8 * 1024 * 1024;
/// Parts of one file under way.
const PARTS: usize = 4;
/// Two writers at the same VERSION wait for each other so often.
const VERSION_TRIES: usize = 10;
/// Keeps two writers of a directory apart while they publish.
const WRITER: &str = ".ssmbake-writer";

/// Why a mirror is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The place is none.
    #[error("`{place}` is no place for a mirror: {why}")]
    Place {
        /// As given.
        place: String,
        /// Why.
        why: String,
    },
    /// The store said no.
    #[error("the mirror cannot be {verb}: {source}")]
    Store {
        /// `read`, `written`.
        verb: &'static str,
        /// Why.
        source: object_store::Error,
    },
    /// A package, or the way there.
    #[error(transparent)]
    Supply(#[from] SupplyError),
    /// The build machine.
    #[error(transparent)]
    Io(#[from] IoError),
}

fn written(source: object_store::Error) -> MirrorError {
    MirrorError::Store {
        verb: "written",
        source,
    }
}

fn read(source: object_store::Error) -> MirrorError {
    MirrorError::Store { verb: "read", source }
}

/// Where a mirror is.
#[derive(Debug)]
pub struct Mirror {
    store: Arc<dyn ObjectStore>,
    /// Of a directory: held while it is published.
    writer: Option<File>,
}

/// A package that shall be there.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Exactly this one, from where it was locked or from another base URL.
    Locked(Locked, Option<String>),
    /// Whatever the base URL has for a target.
    Chosen(Target, String),
}

/// What happened to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was there.
    Kept,
    /// It is there now.
    Written,
}

/// Makes every connection to a bucket with this program's own client.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Mirror {
    /// `s3://BUCKET/PREFIX`, with credentials, region and endpoint from `AWS_…` variables, or a directory, which is made. A
    /// bucket is asked `retries` times again where it fails for the moment.
    #[expect(
        clippy::disallowed_methods,
        reason = "the boundary to the mirror's own directory"
    )]
    pub fn open(
        place: &str,
        environment: &BTreeMap<String, String>,
        roots_der: &[Vec<u8>],
        retries: u32,
    ) -> Result<Self, MirrorError> {
        let refuse = |why: &dyn std::fmt::Display| MirrorError::Place {
            place: place.to_owned(),
            why: why.to_string(),
        };
        if let Some(rest) = place.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let bucket = s3(bucket, environment, roots_der, retries).map_err(|why| refuse(&why))?;
            return Ok(Self {
                store: Arc::new(PrefixStore::new(bucket, prefix)),
                writer: None,
            });
        }
        let dir = Path::new(place);
        let fail = |error| MirrorError::Io(IoError::new("create", dir.display(), error));
        std::fs::create_dir_all(dir).map_err(fail)?;
        let store = LocalFileSystem::new_with_prefix(dir).map_err(|why| refuse(&why))?;
        let mark = dir.join(WRITER);
        let writer = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(mark);
        Ok(Self {
            store: Arc::new(store.with_fsync(true)),
            writer: Some(writer.map_err(fail)?),
        })
    }

    /// Fetches what is not there yet, `jobs` packages at a time, and offers it as `channels`. `told` hears of each package.
    /// The packages as they are there now.
    pub fn sync(
        &self,
        supplier: &Supplier<'_>,
        wanted: &[Wanted],
        channels: &[Channel],
        jobs: usize,
        told: &(dyn Fn(&Locked, Placed) + Sync),
    ) -> Result<LockFile, MirrorError> {
        let queue: Mutex<VecDeque<&Wanted>> = Mutex::new(wanted.iter().collect());
        let done: Mutex<Result<Vec<Locked>, MirrorError>> = Mutex::new(Ok(Vec::new()));
        let done_so_far = || done.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            let next = || {
                let is_failed = done_so_far().is_err();
                let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.pop_front().filter(|_| !is_failed)
            };
            while let Some(wanted) = next() {
                let placed = self.place(supplier, wanted);
                let mut done = done_so_far();
                match (placed, &mut *done) {
                    (Ok((locked, placed)), Ok(all)) => {
                        told(&locked, placed);
                        all.push(locked);
                    }
                    (Err(error), Ok(_)) => *done = Err(error),
                    // The first failure is the one that is told.
                    (_, Err(_)) => {}
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, wanted.len().max(1)) {
                scope.spawn(work);
            }
        });
        let packages = done.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        self.publish(supplier, &packages, channels)?;
        Ok(LockFile::new(packages))
    }

    /// One package and its signature, unless these very bytes are there.
    fn place(&self, supplier: &Supplier<'_>, wanted: &Wanted) -> Result<(Locked, Placed), MirrorError> {
        let runtime = runtime()?;
        let has = |locked: &Locked| {
            let (package, signature) = keys(supplier, &locked.version.to_string(), locked);
            runtime.block_on(self.has(&package, signature.as_ref(), locked))
        };
        let (locked, verified) = match wanted {
            Wanted::Locked(locked, _) if has(locked)? => return Ok((locked.clone(), Placed::Kept)),
            Wanted::Locked(locked, base) => (locked.clone(), supplier.locked(locked, base.as_deref())?),
            // What it is like is known only when it is here.
            Wanted::Chosen(target, base) => {
                let verified = supplier.target(target, base).map_err(SupplyError::from)?;
                let locked = Locked::new(target, &verified);
                if has(&locked)? {
                    return Ok((locked, Placed::Kept));
                }
                (locked, verified)
            }
        };
        let (package, signature) = keys(supplier, &locked.version.to_string(), &locked);
        runtime.block_on(async {
            if let Some(signature) = signature {
                let bytes = verified.signature().to_vec();
                self.store.put(&signature, bytes.into()).await.map_err(written)?;
            }
            self.upload(&package, &verified).await
        })?;
        Ok((locked, Placed::Written))
    }

    /// Whether a whole package is there: its bytes are read, for its name proves nothing.
    async fn has(
        &self,
        package: &Key,
        signature: Option<&Key>,
        locked: &Locked,
    ) -> Result<bool, MirrorError> {
        for key in signature.into_iter().chain([package]) {
            match self.store.head(key).await {
                Ok(meta) if key == package && meta.size != locked.size => return Ok(false),
                Ok(_) => {}
                Err(object_store::Error::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(read(error)),
            }
        }
        let mut hash = Sha256::new();
        let mut at = 0;
        while at < locked.size {
            let end = (at + PART as u64).min(locked.size);
            let part = self.store.get_range(package, at..end).await.map_err(read)?;
            hash.update(&part);
            at = end;
        }
        Ok(hex::encode(&hash.finalize()) == locked.sha256)
    }

    async fn upload(&self, key: &Key, verified: &Verified) -> Result<(), MirrorError> {
        let mut file = verified.file()?;
        let upload = self.store.put_multipart(key).await.map_err(written)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut buffer);
            match count.map_err(|error| IoError::new("read", "the package", error))? {
                0 => break,
                count => {
                    upload.wait_for_capacity(PARTS).await.map_err(written)?;
                    upload.write(&buffer[..count]);
                }
            }
        }
        upload.finish().await.map_err(written)?;
        Ok(())
    }

    /// Lets the channels name the newest version, when everything of it is there.
    fn publish(
        &self,
        supplier: &Supplier<'_>,
        packages: &[Locked],
        channels: &[Channel],
    ) -> Result<(), MirrorError> {
        let Some(newest) = packages.iter().map(|locked| locked.version).max() else {
            return Ok(());
        };
        let runtime = runtime()?;
        if let Some(writer) = &self.writer {
            let locked = writer.lock();
            locked.map_err(|error| IoError::new("lock", WRITER, error))?;
        }
        let published = runtime.block_on(async {
            for channel in channels {
                let at = Key::from(supplier.agent.version_path(*channel));
                if self.version(&at).await?.0.is_some_and(|there| there > newest) {
                    // Another writer was ahead.
                    continue;
                }
                for locked in packages.iter().filter(|locked| locked.version == newest) {
                    let (package, signature) = keys(supplier, &newest.to_string(), locked);
                    let (to_package, to_signature) = keys(supplier, channel.word(), locked);
                    if let (Some(from), Some(to)) = (&signature, &to_signature) {
                        self.copy(from, to).await?;
                    }
                    self.copy(&package, &to_package).await?;
                }
                self.raise(&at, newest).await?;
            }
            Ok(())
        });
        if let Some(writer) = &self.writer {
            // The descriptor's end would do it as well.
            drop(writer.unlock());
        }
        published
    }

    /// Nothing is done where both are the same already: of a directory they are two names of one file, which the file
    /// system would not rename over each other.
    async fn copy(&self, from: &Key, to: &Key) -> Result<(), MirrorError> {
        let tag = async |key| match self.store.head(key).await {
            Ok(meta) => Ok(meta.e_tag),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(read(error)),
        };
        let there = tag(to).await?;
        if there.is_some() && there == tag(from).await? {
            return Ok(());
        }
        self.store.copy(from, to).await.map_err(written)
    }

    /// The version that a channel names, and the state of its file.
    async fn version(&self, at: &Key) -> Result<(Option<AgentVersion>, Option<UpdateVersion>), MirrorError> {
        let got = match self.store.get_opts(at, GetOptions::default()).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok((None, None)),
            Err(error) => return Err(read(error)),
        };
        let state = UpdateVersion {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        let bytes = got.bytes().await.map_err(read)?;
        // A file that holds no version is replaced.
        let version = String::from_utf8_lossy(&bytes).trim().parse().ok();
        Ok((version, Some(state)))
    }

    /// Writes VERSION, never over a newer one.
    async fn raise(&self, at: &Key, newest: AgentVersion) -> Result<(), MirrorError> {
        for _ in 0..VERSION_TRIES {
            let (there, state) = self.version(at).await?;
            if there.is_some_and(|there| there >= newest) {
                return Ok(());
            }
            let mode = match (&self.writer, state) {
                // Nobody else writes: the lock is held.
                (Some(_), _) => PutMode::Overwrite,
                (None, Some(state)) => PutMode::Update(state),
                (None, None) => PutMode::Create,
            };
            let options = PutOptions {
                mode,
                ..PutOptions::default()
            };
            let text = format!("{newest}\n");
            match self.store.put_opts(at, text.into(), options).await {
                Ok(_) => return Ok(()),
                Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {
                }
                Err(error) => return Err(written(error)),
            }
        }
        Err(MirrorError::Place {
            place: at.to_string(),
            why: "others write it again and again".to_owned(),
        })
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, MirrorError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| IoError::new("start", "the mirror's writer", error))?)
}

/// Package and signature below `version`, which may be a channel's word.
fn keys(supplier: &Supplier<'_>, version: &str, locked: &Locked) -> (Key, Option<Key>) {
    let file = supplier.agent.package_file_name(locked.format);
    let package = format!("{version}/{}/{file}", locked.folder);
    // A program for Windows has its signature inside.
    let is_beside = locked.format != PackageFormat::Exe;
    let signature = is_beside.then(|| Key::from(supplier.agent.signature_path(&package)));
    (Key::from(package), signature)
}

/// A bucket, as AWS's own tools are told of one.
fn s3(
    bucket: &str,
    environment: &BTreeMap<String, String>,
    roots_der: &[Vec<u8>],
    retries: u32,
) -> Result<object_store::aws::AmazonS3, String> {
    let tls = tls::config(&Trust::Only(roots_der.to_vec())).map_err(|error| error.to_string())?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("ssmbake/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.to_string())?;
    let mut builder = AmazonS3Builder::new().with_http_connector(Connector(client));
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AWS_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .iter()
        .find_map(|name| environment.get(*name));
    if let Some(endpoint) = endpoint {
        let is_plain = endpoint.starts_with("http://");
        builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
    }
    builder
        .with_bucket_name(bucket)
        .with_retry(RetryConfig {
            max_retries: usize::try_from(retries).unwrap_or(usize::MAX),
            ..RetryConfig::default()
        })
        .build()
        .map_err(|error| error.to_string())
}
