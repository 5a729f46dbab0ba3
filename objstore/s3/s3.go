// Package s3 is an object store in a bucket that speaks S3, with conditional writes: AWS, MinIO, Ceph, versitygw and the like.
//
// A tag is an ETag, which for objects that were put in one piece is a hash of their bytes. Each call is one request and is tried once;
// package retry adds the rest.
package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/internal/remote"
)

// Config says where the bucket is.
type Config struct {
	// Endpoint is the server's host, or host:port.
	Endpoint string
	// Plain says that it speaks HTTP without TLS.
	Plain bool
	// Region is what requests are signed for. Default us-east-1.
	Region string
	Bucket string
	// Prefix is put before every key, with a slash; "" is none.
	Prefix string
	// AccessKeyID and SecretAccessKey are both set.
	AccessKeyID, SecretAccessKey string
	// CA is the PEM of the authorities to trust; "" is the system's.
	CA string
}

// Store is one prefix of a bucket.
type Store struct {
	core      minio.Core
	transport *http.Transport
	bucket    string
	prefix    string
	gate      remote.Gate
}

var _ objstore.Store = (*Store)(nil)

// Open asks nothing of the server yet.
func Open(cfg Config) (*Store, error) {
	t, err := remote.Transport(cfg.CA)
	if err != nil {
		return nil, err
	}
	region := cfg.Region
	if region == "" {
		region = "us-east-1"
	}
	c, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(cfg.AccessKeyID, cfg.SecretAccessKey, ""), Secure: !cfg.Plain, Region: region, Transport: t,
		// A library that repeats a conditional put answers "exists already" for an object that it wrote itself.
		MaxRetries: 1,
	})
	if err != nil {
		return nil, err
	}
	s := &Store{core: minio.Core{Client: c}, transport: t, bucket: cfg.Bucket}
	if cfg.Prefix != "" {
		s.prefix = cfg.Prefix + "/"
	}
	return s, nil
}

// failure gives the error of a call that is not about what the caller handles itself.
func failure(op, key string, write bool, err error) error {
	status, code := answer(err)
	return remote.Call{Op: op, Key: key, Write: write, Status: status, Code: code, Err: err}.Error()
}

// answer gives the status and code of an error that is an answer.
func answer(err error) (status int, code string) {
	var r minio.ErrorResponse
	if errors.As(err, &r) && r.StatusCode != 0 {
		return r.StatusCode, r.Code
	}
	return 0, ""
}

func absent(err error) bool {
	status, code := answer(err)
	return status == http.StatusNotFound && code != "NoSuchBucket"
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, objstore.Tag, error) {
	if err := objstore.ValidKey("get", key); err != nil {
		return nil, "", err
	}
	return s.read(ctx, "get", key, minio.GetObjectOptions{}, func(size int64) (int64, error) { return size, nil })
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	const op = "get range of"
	if err := objstore.ValidRange(op, key, off, n); err != nil {
		return nil, err
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(off, off+n-1); err != nil {
		return nil, &objstore.Error{Op: op, Key: key, Kind: objstore.ErrInvalid, Cause: err}
	}
	data, _, err := s.read(ctx, op, key, o, func(size int64) (int64, error) {
		if size < n {
			return 0, remote.Short(key, off, n)
		}
		return n, nil
	})
	if e := (*objstore.Error)(nil); errors.As(err, &e) && e.Kind == objstore.ErrRange {
		return nil, remote.Short(key, off, n)
	}
	return data, err
}

// read gets as many bytes as want decides from the size of the answer.
func (s *Store) read(ctx context.Context, op, key string, o minio.GetObjectOptions, want func(int64) (int64, error)) ([]byte, objstore.Tag, error) {
	if err := s.gate.Pass(ctx, op, key); err != nil {
		return nil, "", err
	}
	body, info, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, o)
	if err != nil {
		status, _ := answer(err)
		switch {
		case absent(err):
			return nil, "", &objstore.Error{Op: op, Key: key, Kind: objstore.ErrNotFound}
		case status == http.StatusRequestedRangeNotSatisfiable:
			return nil, "", &objstore.Error{Op: op, Key: key, Kind: objstore.ErrRange}
		}
		return nil, "", failure(op, key, false, err)
	}
	defer body.Close()
	n, err := want(info.Size)
	if err != nil {
		return nil, "", err
	}
	data, err := remote.ReadBody(op, key, body, n)
	return data, remote.Unquote(info.ETag), err
}

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := objstore.ValidKey("head", key); err != nil {
		return objstore.Info{}, err
	}
	if err := s.gate.Pass(ctx, "head", key); err != nil {
		return objstore.Info{}, err
	}
	o, err := s.core.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err == nil {
		return objstore.Info{Key: key, Size: o.Size, Tag: remote.Unquote(o.ETag), Modified: o.LastModified}, nil
	}
	if !absent(err) {
		return objstore.Info{}, failure("head", key, false, err)
	}
	// An answer without a body does not tell a missing object from a missing bucket.
	there, err := s.core.BucketExists(ctx, s.bucket)
	switch {
	case err != nil:
		return objstore.Info{}, failure("head", key, false, err)
	case !there:
		return objstore.Info{}, remote.Call{Op: "head", Key: key, Status: http.StatusNotFound, Code: "NoSuchBucket"}.Error()
	}
	return objstore.Info{}, &objstore.Error{Op: "head", Key: key, Kind: objstore.ErrNotFound}
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (objstore.Tag, error) {
	if err := objstore.ValidPut("put", key, len(data), cond); err != nil {
		return "", err
	}
	if err := s.gate.Pass(ctx, "put", key); err != nil {
		return "", err
	}
	// The hash of the whole is given, so none is wanted of the parts of a stream.
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableContentSha256: true}
	if cond.Absent() {
		o.SetMatchETagExcept("*")
	} else if tag, ok := cond.Match(); ok {
		o.SetMatchETag(string(tag))
	}
	sum := sha256.Sum256(data)
	info, err := s.core.PutObject(ctx, s.bucket, s.prefix+key, bytes.NewReader(data), int64(len(data)), "", hex.EncodeToString(sum[:]), o)
	if err == nil {
		return remote.Unquote(info.ETag), nil
	}
	return "", refused(key, cond, err)
}

func refused(key string, cond objstore.Cond, err error) error {
	status, _ := answer(err)
	_, match := cond.Match()
	switch {
	case status == http.StatusPreconditionFailed && cond.Absent():
		return &objstore.Error{Op: "put", Key: key, Kind: objstore.ErrExists}
	case match && (status == http.StatusPreconditionFailed || absent(err)):
		return &objstore.Error{Op: "put", Key: key, Kind: objstore.ErrChanged}
	}
	return failure("put", key, true, err)
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objstore.ValidKey("delete", key); err != nil {
		return err
	}
	if err := s.gate.Pass(ctx, "delete", key); err != nil {
		return err
	}
	if err := s.core.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{}); err != nil && !absent(err) {
		return failure("delete", key, true, err)
	}
	return nil
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, yield func(objstore.Info) bool) error {
	if err := objstore.ValidPrefix("list", prefix); err != nil {
		return err
	}
	if err := s.gate.Pass(ctx, "list", prefix); err != nil {
		return err
	}
	o := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
	if after != "" {
		o.StartAfter = s.prefix + after
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for found := range s.core.ListObjectsIter(ctx, s.bucket, o) {
		if found.Err != nil {
			return failure("list", prefix, false, found.Err)
		}
		key := strings.TrimPrefix(found.Key, s.prefix)
		if key <= after || objstore.ValidKey("list", key) != nil {
			continue
		}
		if !yield(objstore.Info{Key: key, Size: found.Size, Tag: remote.Unquote(found.ETag), Modified: found.LastModified}) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return s.gate.Pass(ctx, "list", prefix)
	}
	return nil
}

// Close implements objstore.Store.
func (s *Store) Close() error {
	s.gate.Close()
	s.transport.CloseIdleConnections()
	return nil
}
