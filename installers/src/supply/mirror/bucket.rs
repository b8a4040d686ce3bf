//! The place of a mirror: a directory, or a bucket of an S3-compatible server.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Read;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{
    GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
    UpdateVersion,
};
use sha2::{Digest, Sha256};
use ssmbake_manifests::hex;

use super::{MirrorError, SupplyError};
use crate::acquire::transport::{self, CONNECT, STALL};
use crate::acquire::{AcquireError, NetworkError, Origin, Progress, Sink, TransportOptions, address};
use crate::error::IoError;
use crate::interrupt::Interrupt;

/// Of an upload, bytes: S3 takes no smaller ones but the last.
const PART: usize = 8 * 1024 * 1024;
/// Parts of one file under way.
const PARTS: usize = 4;
/// Two writers at the same file wait for each other so often.
pub(super) const TRIES: usize = 10;
/// Keeps two writers of a directory apart while they publish.
const WRITER: &str = ".ssmbake-writer";
/// Between two looks at the lock of another writer.
const PAUSE: Duration = Duration::from_millis(50);
/// Of directories: versions, folders and archives lie no deeper.
const DEPTH: usize = 4;
/// Where instances and containers ask for their credentials.
const METADATA: &str = "169.254.169.254,169.254.170.2,169.254.170.23";
/// Any of these says where credentials come from, or that none are needed.
const CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];

/// Base URL of what is there already.
pub(super) const OWN: &str = "mirror:";

fn written(source: object_store::Error) -> MirrorError {
    disk("write", &source).unwrap_or(MirrorError::Store {
        verb: "written",
        source,
    })
}

fn read(source: object_store::Error) -> MirrorError {
    disk("read", &source).unwrap_or(MirrorError::Store { verb: "read", source })
}

/// What a directory says is this machine's own trouble, and no network's.
fn disk(verb: &'static str, error: &object_store::Error) -> Option<MirrorError> {
    let object_store::Error::Generic {
        store: "LocalFileSystem",
        source,
    } = error
    else {
        return None;
    };
    let causes = std::iter::successors(Some(&**source as &dyn std::error::Error), |error| error.source());
    let mut causes = causes.filter_map(|error| error.downcast_ref::<std::io::Error>());
    let cause = causes.next()?;
    let cause = std::io::Error::new(cause.kind(), cause.to_string());
    Some(IoError::new(verb, "the mirror", cause).into())
}

/// What drives one writer.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Where a mirror is.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// Of a directory: held while it is published.
    writer: Option<File>,
    /// Of a directory: itself, held by each of its writers from the beginning to the end.
    _used: Option<File>,
    interrupt: Interrupt,
}

/// Makes every connection to a bucket with this program's own client.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Bucket {
    /// `s3://BUCKET/PREFIX`, with credentials, region and endpoint from `AWS_…` variables, or a directory, which is made.
    pub(super) fn open(
        place: &str,
        environment: &BTreeMap<String, String>,
        options: &TransportOptions,
    ) -> Result<Self, MirrorError> {
        let refuse = |why: &dyn std::fmt::Display| MirrorError::Place {
            place: address::shown(place),
            why: why.to_string(),
        };
        let Some((scheme, rest)) = place.split_once("://") else {
            return Self::directory(Path::new(place), options, refuse);
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if scheme != "s3" || name.is_empty() {
            return Err(refuse(&"no mirror is kept there"));
        }
        let store = s3(name, environment, options).map_err(|why| refuse(&why))?;
        let bucket = Self {
            store: Arc::new(PrefixStore::new(store, prefix)),
            writer: None,
            _used: None,
            interrupt: options.interrupt.clone(),
        };
        let is_told = CREDENTIALS.iter().any(|name| environment.contains_key(*name));
        match bucket.greet(place, options) {
            Err(MirrorError::Interrupted) => Err(MirrorError::Interrupted),
            // The machine could have had them of its own.
            Err(error) if !is_told => Err(refuse(&format!(
                "no credentials are set, and the machine has none: {error}"
            ))),
            greeted => greeted.map(|()| bucket),
        }
    }

    /// A bucket that does not answer is found before anything is fetched for it.
    fn greet(&self, place: &str, options: &TransportOptions) -> Result<(), MirrorError> {
        let limit = options.timeout.min(CONNECT + STALL);
        let any = Key::from(WRITER);
        let asked = self.unless_interrupted(async {
            let asked = tokio::time::timeout(limit, self.store.head(&any)).await;
            match asked {
                Ok(Ok(_) | Err(object_store::Error::NotFound { .. })) => Ok(()),
                Ok(Err(error)) => Err(read(error)),
                Err(_) => Err(silent(place, limit)),
            }
        });
        let runtime = runtime().map_err(|error| IoError::new("start", "the mirror's writer", error))?;
        runtime.block_on(asked)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the boundary to the mirror's own directory"
    )]
    fn directory(
        dir: &Path,
        options: &TransportOptions,
        refuse: impl Fn(&dyn std::fmt::Display) -> MirrorError,
    ) -> Result<Self, MirrorError> {
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
            _used: swept(dir).map_err(fail)?,
            interrupt: options.interrupt.clone(),
        })
    }

    /// Keeps other writers of a directory away while `work` is done; writers of a bucket see each other's changes.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> Result<T, MirrorError>) -> Result<T, MirrorError> {
        if let Some(writer) = &self.writer {
            let fail = |error| IoError::new("lock", WRITER, error);
            while let Err(held) = writer.try_lock() {
                match held {
                    TryLockError::Error(error) => return Err(fail(error).into()),
                    TryLockError::WouldBlock => std::thread::sleep(PAUSE),
                }
                self.interrupt.check().map_err(|_| MirrorError::Interrupted)?;
            }
        }
        let done = work();
        if let Some(writer) = &self.writer {
            // The descriptor's end would do it as well.
            drop(writer.unlock());
        }
        done
    }

    async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T, MirrorError>>,
    ) -> Result<T, MirrorError> {
        match select(std::pin::pin!(work), std::pin::pin!(self.interrupt.arrived())).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(MirrorError::Interrupted),
        }
    }

    /// What the store says of a file, if there is one.
    pub(super) async fn meta(&self, key: &Key) -> Result<Option<ObjectMeta>, MirrorError> {
        match self.store.head(key).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(read(error)),
        }
    }

    /// Whether a file is there: its bytes are read, for its name proves nothing.
    pub(super) async fn has(&self, key: &Key, sha256: &str) -> Result<bool, MirrorError> {
        let Some(ObjectMeta { size, .. }) = self.meta(key).await? else {
            return Ok(false);
        };
        let (mut hash, mut at) = (Sha256::new(), 0);
        self.interrupt.check().map_err(|_| MirrorError::Interrupted)?;
        while let Some(part) = self.part(key, at, size).await.map_err(read)? {
            hash.update(&*part);
            at += part.len() as u64;
        }
        Ok(hex::encode(&hash.finalize()) == sha256)
    }

    /// What follows `at` of a file of `size` bytes; none at its end.
    async fn part(
        &self,
        key: &Key,
        at: u64,
        size: u64,
    ) -> object_store::Result<Option<impl Deref<Target = [u8]> + use<>>> {
        match (at + PART as u64).min(size) {
            end if at < end => self.store.get_range(key, at..end).await.map(Some),
            _ => Ok(None),
        }
    }

    /// What is at a URL below [`OWN`], part by part.
    fn each_part(
        &self,
        url: &str,
        limit: u64,
        take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), NetworkError> {
        let shown = || url.to_owned();
        let fail = |error: object_store::Error| match error {
            object_store::Error::NotFound { .. } => NetworkError::NotFound {
                url: shown(),
                status: 404,
            },
            error => NetworkError::Connection {
                url: shown(),
                why: error.to_string(),
                tries: 1,
            },
        };
        let path = url.strip_prefix(OWN).ok_or_else(|| NetworkError::Url(shown()))?;
        let key = Key::from(path.trim_start_matches('/'));
        let runtime = runtime().map_err(NetworkError::Write)?;
        let size = runtime.block_on(self.store.head(&key)).map_err(fail)?.size;
        if size > limit {
            return Err(NetworkError::TooLarge { url: shown(), limit });
        }
        let mut at = 0;
        while let Some(part) = runtime.block_on(self.part(&key, at, size)).map_err(fail)? {
            take(&part).map_err(NetworkError::Write)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// A small file.
    pub(super) async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), MirrorError> {
        let put = async { self.store.put(key, bytes.into()).await.map_err(written) };
        self.unless_interrupted(put).await.map(drop)
    }

    /// A large file, from its beginning.
    pub(super) async fn upload(&self, key: &Key, file: &File) -> Result<(), MirrorError> {
        let begin = async { self.store.put_multipart(key).await.map_err(written) };
        let mut upload = self.unless_interrupted(begin).await?;
        let sent = self.unless_interrupted(send(upload.as_mut(), file)).await;
        if sent.is_err() {
            // What came so far would stay, and be paid for. That it does is not the news.
            drop(tokio::time::timeout(STALL, upload.abort()).await);
        }
        sent
    }

    /// Whether there is something to copy. Nothing is done where both are the same already: of a directory they are two
    /// names of one file, which the file system would not rename over each other.
    pub(super) async fn copy(&self, from: &Key, to: &Key) -> Result<bool, MirrorError> {
        let Some(ObjectMeta { e_tag: tag, .. }) = self.meta(from).await? else {
            return Ok(false);
        };
        let is_same = tag.is_some() && self.meta(to).await?.is_some_and(|there| there.e_tag == tag);
        if !is_same {
            let copy = async { self.store.copy(from, to).await.map_err(written) };
            self.unless_interrupted(copy).await?;
        }
        Ok(true)
    }

    /// A small file and its state.
    async fn get(&self, key: &Key) -> Result<Option<(Vec<u8>, UpdateVersion)>, MirrorError> {
        self.interrupt.check().map_err(|_| MirrorError::Interrupted)?;
        let got = match self.store.get_opts(key, GetOptions::default()).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let state = UpdateVersion {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        let bytes = got.bytes().await.map_err(read)?;
        Ok(Some((bytes.to_vec(), state)))
    }

    /// A small file.
    pub(super) async fn read(&self, key: &Key) -> Result<Option<Vec<u8>>, MirrorError> {
        Ok(self.get(key).await?.map(|(bytes, _)| bytes))
    }

    /// Makes of a small file what `change` makes of its bytes, also where others do the same; none leaves it as it is.
    pub(super) async fn change(
        &self,
        key: &Key,
        change: impl Fn(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<(), MirrorError> {
        for _ in 0..TRIES {
            let (there, state) = self.get(key).await?.unzip();
            let Some(bytes) = change(there.as_deref()) else {
                return Ok(());
            };
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
            match self.store.put_opts(key, bytes.into(), options).await {
                Ok(_) => return Ok(()),
                Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {
                }
                Err(error) => return Err(written(error)),
            }
        }
        Err(MirrorError::Contended(key.to_string()))
    }
}

/// What is there already, for those who verify packages.
impl Origin for Bucket {
    fn get_small(&self, url: &str, limit: u64) -> Result<Vec<u8>, NetworkError> {
        let mut bytes = Vec::new();
        self.each_part(url, limit, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn download(
        &self,
        url: &str,
        sink: &mut dyn Sink,
        limit: u64,
        _progress: &dyn Progress,
    ) -> Result<(), NetworkError> {
        self.each_part(url, limit, &mut |part| sink.write_all(part))
    }
}

/// Every part of a file, [`PARTS`] at a time.
async fn send(upload: &mut dyn MultipartUpload, mut file: &File) -> Result<(), MirrorError> {
    let mut parts = FuturesUnordered::new();
    loop {
        let mut part = Vec::new();
        let read = file.by_ref().take(PART as u64).read_to_end(&mut part);
        let is_last = read.map_err(|error| IoError::new("read", "what was fetched", error))? < PART;
        parts.push(upload.put_part(part.into()));
        while parts.len() >= if is_last { 1 } else { PARTS } {
            parts.next().await.transpose().map_err(written)?;
        }
        if is_last {
            upload.complete().await.map_err(written)?;
            return Ok(());
        }
    }
}

fn silent(place: &str, limit: Duration) -> MirrorError {
    let error = NetworkError::Timeout {
        url: place.to_owned(),
        seconds: limit.as_secs(),
    };
    SupplyError::from(AcquireError::from(error)).into()
}

/// Removes what killed writers have left in a directory, unless another writer is at work; it is held until it is closed.
/// None where directories cannot be held: what is there stays.
#[expect(
    clippy::disallowed_methods,
    reason = "the boundary to the mirror's own directory"
)]
fn swept(dir: &Path) -> std::io::Result<Option<File>> {
    let Ok(used) = File::open(dir) else {
        return Ok(None);
    };
    if used.try_lock().is_ok() {
        let mut open = vec![(dir.to_owned(), 0)];
        while let Some((dir, depth)) = open.pop() {
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() && depth < DEPTH {
                    open.push((entry.path(), depth + 1));
                }
                if kind.is_file() && is_left_over(&entry.file_name().to_string_lossy()) {
                    std::fs::remove_file(entry.path())?;
                }
            }
        }
    }
    Ok(used.lock_shared().is_ok().then_some(used))
}

/// `NAME#1`: the store's own name of a file that is being written. Names of ours have no such sign.
fn is_left_over(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(name, number)| {
        !name.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A bucket, as AWS's own tools are told of one.
fn s3(
    bucket: &str,
    environment: &BTreeMap<String, String>,
    options: &TransportOptions,
) -> Result<object_store::aws::AmazonS3, String> {
    let mut own = options.clone();
    // No proxy knows this machine's credentials.
    let direct = own.proxy.no_proxy.unwrap_or_default();
    own.proxy.no_proxy = Some(format!("{direct},{METADATA}"));
    let client = transport::client(&own).map_err(|error| error.to_string())?;
    // The answer comes after the last byte of a part, and parts share the line.
    let client = client
        .read_timeout((STALL * PARTS as u32).min(options.timeout))
        .build();
    let client = client.map_err(|error| error.to_string())?;
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
    let retry = RetryConfig::default();
    builder
        .with_bucket_name(bucket)
        .with_retry(RetryConfig {
            max_retries: usize::try_from(options.retries).unwrap_or(usize::MAX),
            retry_timeout: retry.retry_timeout.min(options.timeout),
            ..retry
        })
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_never_leave_alone_is_given_up() {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let bucket = Bucket {
            store: Arc::clone(&store),
            writer: None,
            _used: None,
            interrupt: Interrupt::new(),
        };
        let key = Key::from("latest/VERSION");
        let tries = std::cell::Cell::new(0);
        let changed = |_: Option<&[u8]>| {
            // Another writer comes between, each time.
            tries.set(tries.get() + 1);
            let (store, key) = (Arc::clone(&store), key.clone());
            let other = std::thread::spawn(move || {
                let put = store.put(&key, b"other".to_vec().into());
                runtime().expect("runtime").block_on(put).expect("put");
            });
            other.join().expect("writer");
            Some(b"ours".to_vec())
        };
        let done = runtime().expect("runtime").block_on(bucket.change(&key, changed));
        assert!(matches!(done, Err(MirrorError::Contended(file)) if file == "latest/VERSION"));
        assert_eq!(tries.get(), TRIES);
    }
}
